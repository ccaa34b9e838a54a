package policy_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

func TestPoliciesSeeResourcesAndPrompts(t *testing.T) {
	t.Parallel()
	read, get, complete := policy.NewAction("resources/read"), policy.NewAction("prompts/get"), policy.NewAction("completion/complete")
	tests := []struct {
		name      string
		action    policy.Action
		object    *policy.Object
		condition string
		want      bool
	}{
		{"a resource by its scheme", read, policy.NewResource("docs://a/b"), `resource is Resource && resource.scheme == "docs"`, true},
		{"a scheme however it is written", read, policy.NewResource("DocS+v1.0-x:a"), `resource is Resource && resource.scheme == "docs+v1.0-x"`, true},
		{"a scheme without slashes", read, policy.NewResource("urn:x:7"), `resource is Resource && resource.scheme == "urn"`, true},
		{"no scheme where there is no colon", read, policy.NewResource("docs"), `resource is Resource && resource.scheme == ""`, true},
		{"no scheme of other characters", read, policy.NewResource("a b:c"), `resource is Resource && resource.scheme == ""`, true},
		{"no scheme that begins with a digit", read, policy.NewResource("7z:c"), `resource is Resource && resource.scheme == ""`, true},
		{"no scheme before an empty colon", read, policy.NewResource(":c"), `resource is Resource && resource.scheme == ""`, true},
		{"no scheme of a template whose scheme is a variable", complete, policy.NewResource("{+base}/x:y"), `resource is Resource && resource.scheme == ""`, true},
		{"a template", complete, policy.NewResource("docs://{id}/x"), `resource is Resource && resource.scheme == "docs" && resource.uri == "docs://{id}/x"`, true},
		{"a URI by its beginning", read, policy.NewResource("file:///public/a"), `resource is Resource && resource.uri like "file:///public/*"`, true},
		{"a URI with another beginning", read, policy.NewResource("file:///publicity"), `resource is Resource && resource.uri like "file:///public/*"`, false},
		{"a URI that climbs out of there", read, policy.NewResource("file:///public/../a"), `resource is Resource && resource.uri like "file:///public/*"`, false},
		{"a prompt by its name", get, policy.NewPrompt("git:Review"), `resource is Prompt && resource.name == "git:Review"`, true},
		{"a prompt to complete", complete, policy.NewPrompt("a"), `resource is Prompt && resource.name like "*"`, true},
		{"no prompt as a resource", complete, policy.NewPrompt("docs://a"), `resource is Resource && resource.scheme == "docs"`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set := load(t, `@id("a") permit (principal, action, resource) when { `+tt.condition+` };`)
			if got := set.Match(caller("a"), tt.action, tt.object).Decide(situation(t, "")); (got.Verdict == policy.Allow) != tt.want {
				t.Errorf("got %+v, want allowed %v", got, tt.want)
			}
		})
	}
}

func TestNoPolicyAllowsAURIThatClimbs(t *testing.T) {
	t.Parallel()
	set := load(t, `@id("all") permit (principal, action, resource);`)
	tests := []struct {
		uri  string
		want bool
	}{
		{"file:///a/../b", true},
		{"file:///a/./b", true},
		{"file:///a/..", true},
		{"file:///a/.", true},
		{"file:///a/../", true},
		{"file:///a/%2e%2E/b", true},
		{"file:///a/.%2e/b", true},
		{"file:///a%2f..%2Fb", true},
		{`file:///a\..\b`, true},
		{"file:///a%5c..%5Cb", true},
		{"file:///a?/../b", true},
		{"file:///a#/../b", true},
		{"docs:../b", true},
		{"docs:./b", true},
		{"docs://..", true},
		{"..", true},
		{"file:///{dir}/../b", true},
		{"", false},
		{"file:///", false},
		{"file:///a//b", false},
		{"file:///a/b.txt", false},
		{"file:///a/.hidden", false},
		{"file:///a/...", false},
		{"file:///a/..b/c..", false},
		{"file:///a%2eb", false},
		{"file:///a/%", false},
		{"file:///a/%2", false},
		{"file:///a/%zz.", false},
		{"file:///a{.ext}", false},
		{"https://example.com/a?b=1.2", false},
	}
	for _, tt := range tests {
		t.Run(tt.uri, func(t *testing.T) {
			t.Parallel()
			got := set.Match(caller("a"), policy.NewAction("resources/read"), policy.NewResource(tt.uri)).Decide(situation(t, ""))
			want := policy.Allow
			rule := "all"
			if tt.want {
				want, rule = policy.Deny, policy.RuleURI
			}
			if got.Verdict != want || got.Rule == nil || got.Rule.ID != rule || got.Rule.Reason == "" && tt.want {
				t.Errorf("got %+v, want %v by %s", got, want, rule)
			}
			if policy.Climbs(tt.uri) != tt.want {
				t.Errorf("got Climbs %v, want %v", !tt.want, tt.want)
			}
		})
	}
	if got := set.Match(caller("a"), policy.NewAction("prompts/get"), policy.NewPrompt("..")).Decide(situation(t, "")); got.Verdict != policy.Allow {
		t.Errorf("a prompt called ..: got %+v, want allow: its name is no path", got)
	}
}

// FuzzClimbs looks for a URI that does not climb and yet leads a reader of paths
// somewhere else.
func FuzzClimbs(f *testing.F) {
	for _, uri := range []string{"file:///a/../b", "file:///a/%2e%2e/b", "docs:..%2f", "a%2", "%2e", "x://y/..;/z", "\xff/.."} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if policy.Climbs(uri) {
			return
		}
		plain, err := url.PathUnescape(uri)
		if err != nil {
			plain = uri
		}
		segments := strings.FieldsFunc(plain, func(r rune) bool { return strings.ContainsRune(`/\:`, r) })
		if slices.Contains(segments, "..") || slices.Contains(segments, ".") {
			t.Errorf("%q does not climb, and has the segments %q", uri, segments)
		}
	})
}
