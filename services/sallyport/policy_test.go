package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
)

// statute is a policy service that knows no Cedar: a set with the word MISTAKE in
// it is no good, and what is decided is said by the test.
type statute struct {
	authv1.UnimplementedPolicyServiceServer
	files    []*authv1.PolicyFile
	source   authv1.PolicySource
	problems []*authv1.PolicyProblem
	moved    bool // somebody else changes them before each change
	changes  []string
	decide   func(candidates bool, c *authv1.SimulatedCase) *authv1.Explanation
}

func versionOf(files []*authv1.PolicyFile) string {
	h := sha256.New()
	for _, f := range files {
		_, _ = h.Write(append([]byte(f.GetName()), f.GetText()...)) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s *statute) GetPolicies(context.Context, *authv1.GetPoliciesRequest) (*authv1.GetPoliciesResponse, error) {
	return &authv1.GetPoliciesResponse{
		Files: s.files, Version: versionOf(s.files), Source: s.source, Roles: []string{"admin", "analyst"}, Problems: s.problems,
		LoadTime: timestamppb.New(time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)),
	}, nil
}

func (*statute) CheckPolicies(_ context.Context, req *authv1.CheckPoliciesRequest) (*authv1.CheckPoliciesResponse, error) {
	resp := &authv1.CheckPoliciesResponse{Version: versionOf(req.GetFiles())}
	for _, f := range req.GetFiles() {
		for i, line := range strings.Split(string(f.GetText()), "\n") {
			for word, warning := range map[string]bool{"MISTAKE": false, "DOUBT": true} {
				if strings.Contains(line, word) {
					resp.Problems = append(resp.Problems, &authv1.PolicyProblem{File: f.GetName(), Line: uint32(i) + 1, Message: "this is a " + word, Warning: warning})
				}
			}
		}
	}
	return resp, nil
}

func (s *statute) PutPolicies(_ context.Context, req *authv1.PutPoliciesRequest) (*authv1.PutPoliciesResponse, error) {
	if s.moved || req.GetBaseVersion() != versionOf(s.files) {
		return nil, fault.New(codes.Aborted, authv1.Reason_REASON_POLICY_CHANGED, "others are in use")
	}
	s.files, s.source = req.GetFiles(), authv1.PolicySource_POLICY_SOURCE_STORE
	s.changes = append(s.changes, "put by "+req.GetAuthor())
	return &authv1.PutPoliciesResponse{Version: versionOf(s.files)}, nil
}

func (s *statute) RemovePolicies(_ context.Context, req *authv1.RemovePoliciesRequest) (*authv1.RemovePoliciesResponse, error) {
	if s.moved || req.GetBaseVersion() != versionOf(s.files) {
		return nil, fault.New(codes.Aborted, authv1.Reason_REASON_POLICY_CHANGED, "others are in use")
	}
	s.files, s.source = []*authv1.PolicyFile{cedar("default.cedar", basePolicy)}, authv1.PolicySource_POLICY_SOURCE_DEFAULT
	s.changes = append(s.changes, "removed by "+req.GetAuthor())
	return &authv1.RemovePoliciesResponse{Version: versionOf(s.files)}, nil
}

func (s *statute) Simulate(_ context.Context, req *authv1.SimulateRequest) (*authv1.SimulateResponse, error) {
	resp := &authv1.SimulateResponse{}
	for _, c := range req.GetCases() {
		resp.Explanations = append(resp.Explanations, s.decide(len(req.GetCandidates()) > 0, c))
	}
	return resp, nil
}

func (s *statute) client(t *testing.T) authv1.PolicyServiceClient {
	t.Helper()
	return authv1.NewPolicyServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) {
		authv1.RegisterPolicyServiceServer(r, s)
	}, rpctest.As("sallyport")))
}

const (
	basePolicy = "@id(\"all\")\n@reason(\"Admins may.\")\npermit (principal in Role::\"admin\", action, resource);\n"
	morePolicy = "// new\n@id(\"none\")\n@reason(\"Not at all.\")\nforbid (principal, action, resource);\n"
)

func newStatute() *statute {
	return &statute{files: []*authv1.PolicyFile{cedar("default.cedar", basePolicy)}, source: authv1.PolicySource_POLICY_SOURCE_DEFAULT}
}

// folder makes a folder of files from name and text in turn.
func folder(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// session runs one command's work and returns what was printed.
func session(l *legislator, work func() error) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	l.out, l.err = &out, &errOut
	err := work()
	if err != nil && err.Error() != "" {
		errOut.WriteString(err.Error())
	}
	return codeOf(err), out.String(), errOut.String()
}

func TestPushingPolicies(t *testing.T) {
	t.Parallel()
	base, more := cedar("default.cedar", basePolicy), cedar("more.cedar", morePolicy)
	tests := []struct {
		name  string
		files []string
		store bool // what holds is from the store
		moved bool
		asks  bool
		yes   bool
		json  bool
		in    string

		code    int
		stdout  string
		stderr  string // is in it
		changes []string
	}{
		{
			name: "what changes is shown and asked about", files: []string{"default.cedar", basePolicy, "more.cedar", morePolicy}, asks: true, in: "y\n",
			stdout: "added    none (more.cedar:2)\n--- none in use\n+++ none new\n@@ -0,0 +1,3 @@\n+@id(\"none\")\n+@reason(\"Not at all.\")\n+forbid (principal, action, resource);\n" +
				"1 added, 0 removed, 0 changed\npolicies " + short(versionOf([]*authv1.PolicyFile{base, more})) + " hold now\n",
			stderr: "push these policies? [y/N]", changes: []string{"put by anna"},
		},
		{name: "a no changes nothing", files: []string{"more.cedar", morePolicy}, asks: true, in: "n\n", code: exitNo, stderr: "[y/N]"},
		{name: "an end of input is a no", files: []string{"more.cedar", morePolicy}, asks: true, code: exitNo},
		{name: "where there is nobody to ask nothing is changed", files: []string{"more.cedar", morePolicy}, code: exitUsage, stderr: "no terminal"},
		{name: "nobody is asked with yes", files: []string{"more.cedar", morePolicy}, yes: true, changes: []string{"put by anna"}},
		{
			name: "for programs", files: []string{"default.cedar", basePolicy}, yes: true, json: true,
			stdout: `{"version":"` + versionOf([]*authv1.PolicyFile{base}) + "\"}\n", changes: []string{"put by anna"},
		},
		{
			name: "the same policies move into the store", files: []string{"default.cedar", basePolicy}, yes: true,
			stdout:  "no policy is added, removed or changed\npolicies " + short(versionOf([]*authv1.PolicyFile{base})) + " hold now\n",
			changes: []string{"put by anna"},
		},
		{
			name: "what is in the store is not put there again", files: []string{"default.cedar", basePolicy}, store: true, yes: true,
			stdout: "policies " + short(versionOf([]*authv1.PolicyFile{base})) + " hold already\n",
		},
		{name: "a mistake is told with its place", files: []string{"more.cedar", "a\nMISTAKE"}, yes: true, code: exitNo, stderr: "more.cedar:2: this is a MISTAKE"},
		{name: "a warning is told and does not hinder", files: []string{"more.cedar", "DOUBT;"}, yes: true, stderr: "more.cedar:1: warning: this is a DOUBT", changes: []string{"put by anna"}},
		{name: "policies that changed meanwhile", files: []string{"more.cedar", morePolicy}, moved: true, yes: true, code: exitNo, stderr: "somebody else"},
		{name: "a folder without policies", files: []string{"x.txt", ""}, yes: true, code: exitUsage, stderr: "no *.cedar"},
		{name: "a name that decisions could not have", files: []string{"a b.cedar", ""}, yes: true, code: exitUsage, stderr: "a name must be"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStatute()
			s.moved = tt.moved
			if tt.store {
				s.source = authv1.PolicySource_POLICY_SOURCE_STORE
			}
			l := &legislator{policies: s.client(t), in: bufio.NewReader(strings.NewReader(tt.in)), asks: tt.asks, json: tt.json}
			dir := folder(t, tt.files...)
			code, stdout, stderr := session(l, func() error { return l.push(t.Context(), []string{dir}, "anna", tt.yes) })
			if code != tt.code || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("got exit %d, %q; want %d, %q", code, stderr, tt.code, tt.stderr)
			}
			if tt.stdout != "" {
				if diff := cmp.Diff(tt.stdout, stdout); diff != "" {
					t.Errorf("stdout (-want +got):\n%s", diff)
				}
			}
			if diff := cmp.Diff(tt.changes, s.changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRemovingPolicies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		files   bool // they are not in the store
		moved   bool
		yes     bool
		asks    bool
		in      string
		code    int
		all     string // is in what is printed
		changes []string
	}{
		{name: "it asks", asks: true, in: "yes\n", all: "those of the configuration hold after that", changes: []string{"removed by anna"}},
		{name: "a no changes nothing", asks: true, in: "\n", code: exitNo, all: "remove them?"},
		{name: "nobody is asked with yes", yes: true, all: "hold now", changes: []string{"removed by anna"}},
		{name: "where there is nobody to ask nothing is changed", code: exitUsage, all: "no terminal"},
		{name: "there is nothing to remove", files: true, yes: true, code: exitNo, all: "nothing to remove: what holds is files that the configuration names"},
		{name: "somebody else was faster", yes: true, moved: true, code: exitNo, all: "somebody else"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStatute()
			s.moved, s.source = tt.moved, authv1.PolicySource_POLICY_SOURCE_STORE
			if tt.files {
				s.source = authv1.PolicySource_POLICY_SOURCE_FILES
			}
			l := &legislator{policies: s.client(t), in: bufio.NewReader(strings.NewReader(tt.in)), asks: tt.asks}
			code, stdout, stderr := session(l, func() error { return l.remove(t.Context(), "anna", tt.yes) })
			if code != tt.code || !strings.Contains(stdout+stderr, tt.all) {
				t.Errorf("got exit %d, %q %q; want %d, %q", code, stdout, stderr, tt.code, tt.all)
			}
			if diff := cmp.Diff(tt.changes, s.changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestShowingPolicies(t *testing.T) {
	t.Parallel()
	s := newStatute()
	s.problems = []*authv1.PolicyProblem{{File: "new.cedar", Line: 7, Message: "resource has no attribute \"size\""}}
	l := &legislator{policies: s.client(t)}
	dir := filepath.Join(t.TempDir(), "policies")
	code, stdout, stderr := session(l, func() error { return l.show(t.Context(), dir) })
	want := "version    " + versionOf(s.files) + "\n" +
		"source     the default policies, since the configuration names no files\n" +
		"since      2026-11-02T09:30:00Z\n" +
		"roles      admin, analyst\n" +
		"files      default.cedar, " + strconv.Itoa(len(basePolicy)) + " bytes, written to " + filepath.Join(dir, "default.cedar") + "\n" +
		"problems   newer policies do not hold, since there is something wrong with them:\n" +
		"           new.cedar:7: resource has no attribute \"size\"\n\n" +
		"POLICY  EFFECT  WHERE            REASON\n" +
		"all     permit  default.cedar:1  Admins may.\n"
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitOK || stderr != "" {
		t.Errorf("exit %d, %q, (-want +got):\n%s", code, stderr, diff)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "default.cedar")); err != nil || string(b) != basePolicy {
		t.Errorf("written: got %q, %v", b, err)
	}
	if code, _, _ := session(l, func() error { return l.show(t.Context(), dir) }); code != exitOK {
		t.Errorf("the same once more: got exit %d", code)
	}
	s.files = []*authv1.PolicyFile{cedar("new.cedar", ""), cedar("default.cedar", morePolicy)}
	if code, _, stderr := session(l, func() error { return l.show(t.Context(), dir) }); code != exitNo || !strings.Contains(stderr, "is there and differs") {
		t.Errorf("others in the same folder: got exit %d, %q", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "new.cedar")); err == nil {
		t.Error("half of the set was written")
	}
	s.files = []*authv1.PolicyFile{cedar("..", "x")}
	if code, _, _ := session(l, func() error { return l.show(t.Context(), dir) }); code != exitNo {
		t.Errorf("a name that leads out of the folder: got exit %d", code)
	}
	s.files, l.json = newStatute().files, true
	_, stdout, _ = session(l, func() error { return l.show(t.Context(), "") })
	var got struct {
		Version, Source string
		Policies        []struct{ ID, Effect, Source string }
		Problems        []struct{ Line int }
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.Version != versionOf(s.files) || got.Source != "default" ||
		len(got.Policies) != 1 || got.Policies[0].ID != "all" || len(got.Problems) != 1 || got.Problems[0].Line != 7 {
		t.Errorf("for programs: got %s (%v)", stdout, err)
	}
}

func TestCheckingPolicies(t *testing.T) {
	t.Parallel()
	dir := folder(t, "a.cedar", basePolicy, "b.cedar", "x\ny MISTAKE\nDOUBT", "c.txt", "")
	tests := []struct {
		name  string
		paths []string
		json  bool
		code  int
		want  string
	}{
		{name: "good ones", paths: []string{dir + "/a.cedar"}, want: "1 policies in 1 files are good; version " + short(versionOf([]*authv1.PolicyFile{cedar("a.cedar", basePolicy)})) + "\n"},
		{name: "mistakes with their places", paths: []string{dir}, code: exitNo, want: dir + "/b.cedar:2: this is a MISTAKE\n" + dir + "/b.cedar:3: warning: this is a DOUBT\n"},
		{name: "a file twice", paths: []string{dir, dir + "/a.cedar"}, code: exitUsage, want: "has the same name"},
		{name: "a file that is not there", paths: []string{dir + "/z.cedar"}, code: exitUsage, want: "no such file"},
		{name: "for programs", paths: []string{dir + "/b.cedar"}, json: true, code: exitNo, want: `"good":false`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := &legislator{policies: newStatute().client(t), json: tt.json}
			code, stdout, stderr := session(l, func() error { return l.check(t.Context(), tt.paths) })
			if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
				t.Errorf("got exit %d, %q %q; want %d, %q", code, stdout, stderr, tt.code, tt.want)
			}
		})
	}
}

func TestComparingPolicies(t *testing.T) {
	t.Parallel()
	l := &legislator{policies: newStatute().client(t)}
	for name, tt := range map[string]struct {
		files []string
		code  int
		want  string
	}{
		"the same in another file":    {[]string{"other.cedar", "// moved\n" + basePolicy}, exitOK, "no policy is added, removed or changed\n"},
		"one that is gone":            {[]string{"more.cedar", morePolicy}, exitNo, "1 added, 1 removed, 0 changed\n"},
		"one that says another":       {[]string{"x.cedar", strings.Replace(basePolicy, "admin", "boss", 1)}, exitNo, "+permit (principal in Role::\"boss\", action, resource);\n"},
		"ones that are no good":       {[]string{"x.cedar", "MISTAKE"}, exitUsage, "x.cedar:1: this is a MISTAKE"},
		"a text that hides something": {[]string{"x.cedar", "@id(\"\x1b[2J\") permit (principal, action, resource);"}, exitNo, "<U+001B>[2J"},
	} {
		code, stdout, stderr := session(l, func() error { return l.diff(t.Context(), []string{folder(t, tt.files...)}) })
		if code != tt.code || !strings.Contains(stdout+stderr, tt.want) || strings.Contains(stdout, "\x1b") {
			t.Errorf("%s: got exit %d, %q %q; want %d, %q", name, code, stdout, stderr, tt.code, tt.want)
		}
	}
}
