package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func TestSuitesAreReadStrictly(t *testing.T) {
	t.Parallel()
	const head = "cases:\n  - "
	tests := []struct {
		name string
		text string
		want string // "" is good
	}{
		{name: "one that is good", text: head + "{as: {roles: [a]}, call: x, expect: allow}"},
		{name: "all that a case can have", text: "policies: [p]\ntools: [{name: x, service: s, risk: read, trust: trusted, sensitivity: public, outbound: true, tags: [t], scopes: [s]}]\n" + head +
			"{name: n, as: {roles: [a], id: 'key:x', name: n, owner: o, tenant: t, scopes: [s]}, call: x, arguments: {a: [1, {b: null}]}, address: '::1', client: c/1, protocol: p, context_source: trace, hops: 1, steps: 2, time: 2026-11-02T09:30:00Z, expect: deny, policy: none, reason: POLICY_DENIED}"},
		{name: "an empty file", text: "", want: "x.yaml: empty"},
		{name: "no cases", text: "cases: []", want: "x.yaml: no cases"},
		{name: "a field that is not known", text: head + "{as: {roles: [a]}, call: x,\n     expects: allow}", want: "x.yaml: unmarshal errors:\n  line 3: field expects is not known here"},
		{name: "a value of another type", text: head + "{as: analyst, call: x, expect: allow}", want: "line 2"},
		{name: "no YAML", text: "cases: [", want: "x.yaml: line 1"},
		{name: "two documents", text: head + "{as: {roles: [a]}, call: x, expect: allow}\n---\n{}", want: "more than one document"},
		{name: "all mistakes at once", text: head + "{as: {roles: [a], key: k, tenant: t}, call: x, read: y, expect: maybe}\n  - {expect: deny, address: here, context_source: moon, reason: NO, read: u, arguments: {}}", want: strings.Join([]string{
			"x.yaml:2: a case has one of call, read and get",
			"x.yaml:2: as: either a key or roles",
			"x.yaml:2: as: nothing else goes with a key",
			`x.yaml:2: expect: "maybe" is not allow, deny, approval or depends`,
			"x.yaml:3: as: either a key or roles",
			`x.yaml:3: address: "here" is not an IP address`,
			`x.yaml:3: context_source: "moon" is not explicit, trace, session or principal`,
			`x.yaml:3: reason: there is no reason "NO"`,
			"x.yaml:3: arguments go with call",
		}, "\n")},
		{name: "arguments that JSON has not", text: head + "{as: {roles: [a]}, call: x, expect: allow, arguments: {a: .nan}}", want: "something that JSON has not"},
		{name: "arguments that are no map", text: head + "{as: {roles: [a]}, call: x, expect: allow, arguments: [1]}", want: "not a map"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := readSuite("x.yaml", []byte(tt.text))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
}

// rolesDecide permits admins everything, wants arguments for "odd", and an
// approval for "pay".
func rolesDecide(_ bool, c *authv1.SimulatedCase) *authv1.Explanation {
	switch {
	case c.GetTarget() == "odd" && c.Arguments == nil:
		return &authv1.Explanation{
			ArgumentsNeeded: true, Inputs: map[string]string{"arguments": "size", "hops": "0"},
			DependsOn: []*authv1.Dependency{{Policy: "small", PolicySource: "default.cedar:7", Arguments: []string{"size"}, Inputs: []string{"hops"}}},
		}
	case c.GetTarget() == "pay":
		return &authv1.Explanation{Verdict: auditv1.Verdict_VERDICT_APPROVAL, Reason: auditv1.Reason_REASON_APPROVAL_REQUIRED, Policy: "ask"}
	case c.GetPrincipal().GetRoles()[0] == "admin":
		return &authv1.Explanation{Verdict: auditv1.Verdict_VERDICT_ALLOW, Policy: "all", PolicySource: "default.cedar:1", Message: "Admins may."}
	}
	return &authv1.Explanation{
		Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_POLICY_DENIED, Message: "No policy permits it.",
		NearMisses: []*auditv1.NearMiss{{Rule: "all", RuleSource: "default.cedar:1", Missing: "the role admin"}},
	}
}

func TestTestingPolicies(t *testing.T) {
	t.Parallel()
	const good = `
cases:
  - {name: admins may, as: {roles: [admin]}, call: look, expect: allow, policy: all}
  - {as: {roles: [intern]}, read: "file:///x", expect: deny, policy: none, reason: POLICY_DENIED}
  - {name: it depends, as: {roles: [admin]}, call: odd, expect: depends}
  - {name: with arguments, as: {roles: [admin]}, call: odd, arguments: {}, expect: allow}
  - {name: paying, as: {roles: [admin]}, call: pay, expect: approval}
`
	const bad = `
cases:
  - {name: admins may not, as: {roles: [admin]}, call: look, expect: deny, policy: other, reason: QUOTA_EXCEEDED}
  - {name: interns may, as: {roles: [intern]}, call: look, expect: allow}
`
	dir := folder(t, "good.yaml", good, "bad.yaml", bad, "broken.yaml", "policies: [p.cedar]"+good, "p.cedar", "\nMISTAKE")
	tests := []struct {
		name   string
		files  []string
		json   bool
		code   int
		stdout string
		stderr string
	}{
		{
			name: "as expected", files: []string{"good.yaml"},
			stdout: "    CASE              DECISION  POLICY  WHERE\n" +
				"ok  admins may        allow     all     default.cedar:1\n" +
				"ok  intern file:///x  deny      -\n" +
				"ok  it depends        depends   -\n" +
				"ok  with arguments    allow     all  default.cedar:1\n" +
				"ok  paying            approval  ask\n" +
				"\n5 of 5 cases are as expected\n",
		},
		{
			name: "a failure is explained", files: []string{"bad.yaml"}, code: exitNo,
			stdout: "      CASE            DECISION  POLICY  WHERE\n" +
				"FAIL  admins may not  allow     all     default.cedar:1\n" +
				"FAIL  interns may     deny      -\n" +
				"\nFAIL  admins may not\n" +
				"case       " + dir + "/bad.yaml:3\n" +
				"wrong      got allow, want deny\n           got policy all, want other\n           got reason none, want QUOTA_EXCEEDED\n" +
				"told       Admins may.\npolicy     all (default.cedar:1)\n" +
				"\nFAIL  interns may\n" +
				"case       " + dir + "/bad.yaml:4\nwrong      got deny, want allow\n" +
				"told       No policy permits it.\n" +
				"policy     none: no policy permits it, so it is denied\n" +
				"near       would be allowed with: the role admin (all, default.cedar:1)\n" +
				"next       If it should be allowed, change the caller's roles or the policies, and try it before: sallyport policy diff PATH --replay 24h.\n" +
				"\n0 of 2 cases are as expected\n",
		},
		{name: "policies that are no good are told with their places", files: []string{"broken.yaml"}, code: exitUsage, stderr: dir + "/p.cedar:2: this is a MISTAKE"},
		{name: "for programs", files: []string{"bad.yaml"}, json: true, code: exitNo},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStatute()
			s.decide = rolesDecide
			l := &legislator{policies: s.client(t), json: tt.json}
			var paths []string
			for _, f := range tt.files {
				paths = append(paths, filepath.Join(dir, f))
			}
			suites, err := readSuites(paths)
			if err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := session(l, func() error { return l.test(t.Context(), suites) })
			if code != tt.code || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("got exit %d, %q; want %d, %q", code, stderr, tt.code, tt.stderr)
			}
			if tt.stdout != "" {
				if diff := cmp.Diff(tt.stdout, stdout); diff != "" {
					t.Errorf("stdout (-want +got):\n%s", diff)
				}
			}
			if tt.json && (!strings.Contains(stdout, `"pass":false`) || !strings.Contains(stdout, `"wrong":["got deny, want allow"]`)) {
				t.Errorf("got %s", stdout)
			}
		})
	}
}

func TestAllMistakesOfAllSuitesAreTold(t *testing.T) {
	t.Parallel()
	dir := folder(t, "a.yaml", "cases: []", "b.yaml", "x: 1")
	_, err := readSuites([]string{dir + "/a.yaml", dir + "/b.yaml", dir + "/c.yaml"})
	if codeOf(err) != exitUsage || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no cases") || !strings.Contains(err.Error(), "field x is not known") {
		t.Errorf("got %v", err)
	}
}

// No file makes the program fall over, and each mistake is told with the file.
func FuzzReadSuite(f *testing.F) {
	for _, seed := range []string{"", "cases: []", "cases:\n  - {as: {roles: [a]}, call: x, arguments: {a: 1}, expect: allow}", "a: &a [*a]", "cases: [1]", "- -", "\x00"} {
		f.Add([]byte(seed))
	}
	if example, err := os.ReadFile("../../deploy/examples/policies/guide.yaml"); err == nil {
		f.Add(example)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := readSuite("x.yaml", bytes.Clone(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "x.yaml") {
				t.Errorf("got error %v without its file", err)
			}
			return
		}
		for i := range s.Cases {
			if _, err := s.Cases[i].simulated(); err != nil || s.at(i) == s.path {
				t.Errorf("case %d at %s: %v", i, s.at(i), err)
			}
		}
	})
}
