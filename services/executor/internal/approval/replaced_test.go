package approval_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/approval"
)

// Whatever takes the place of a definition, unasked or approved, is on record with
// it; to approve the same again does not forget that.
func TestReplacedDefinitionsAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := start(t, newBucket(), nil).loaded(t)
		record := func() *executorv1.Approval {
			t.Helper()
			a, err := x.Read(t.Context(), "github", "search")
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		first, second := loose(t, "One.", toolv1.Risk_RISK_WRITE), loose(t, "Two.", toolv1.Risk_RISK_WRITE)
		looser := loose(t, "Two.", toolv1.Risk_RISK_READ)
		x.withholds(first)
		synctest.Wait()
		if got := record().GetReplaced(); got != nil {
			t.Errorf("a first use has replaced %v", got)
		}
		was := record()
		x.withholds(second)
		synctest.Wait()
		check := func(what, by string, was *executorv1.Approval) {
			t.Helper()
			want := &executorv1.Replaced{Definition: was.GetDefinition(), Digest: was.GetDigest(), By: was.GetBy(), Time: was.GetTime()}
			if got := record(); got.GetBy() != by || cmp.Diff(want, got.GetReplaced(), protocmp.Transform()) != "" {
				t.Errorf("%s: got %v, want by %q, and replaced %v", what, got, by, want)
			}
		}
		check("unasked", approval.Covered, was)
		was = record()
		if err := x.Approve(t.Context(), looser, "operator anna"); err != nil {
			t.Fatal(err)
		}
		check("approved", "operator anna", was)
		if err := x.Approve(t.Context(), looser, "operator bert"); err != nil {
			t.Fatal(err)
		}
		check("approved twice", "operator bert", was)
		x.stop()
	})
}

// large has definitions that are of the most that the contract allows.
func large(t *testing.T, icon, schema int) approval.Offer {
	t.Helper()
	o := loose(t, strings.Repeat("x", 4096), toolv1.Risk_RISK_WRITE)
	o.Digest[1], o.Digest[2] = byte(icon>>8), byte(schema>>8)
	o.Definition.InputSchema = []byte(`{"title":"` + strings.Repeat("x", schema) + `"}`)
	for range 16 {
		o.Definition.Icons = append(o.Definition.Icons, &providerv1.Icon{Src: strings.Repeat("😀", icon)})
	}
	return o
}

// What was replaced is kept within bounds; what is in use has precedence, and that
// something was replaced is known all the same.
func TestReplacedDefinitionsAreBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, after approval.Offer
		kept          bool
	}{
		"as much as fits":           {large(t, 0, 250<<10), large(t, 8192, 0), true},
		"too large":                 {large(t, 1000, 250<<10), large(t, 0, 1), false},
		"does not fit beside":       {large(t, 0, 250<<10), large(t, 8192, 254<<10), false},
		"kept by its options alone": {loose(t, strings.Repeat("x", 16385), toolv1.Risk_RISK_WRITE), large(t, 0, 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x := start(t, newBucket(), nil).loaded(t)
				for _, o := range []approval.Offer{tt.before, tt.after} {
					if x.withholds(o) {
						t.Fatal("withheld")
					}
					synctest.Wait()
				}
				a, err := x.Read(t.Context(), "github", "search")
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(a.GetDigest(), tt.after.Digest) || len(a.GetDefinition().GetIcons()) != 16 || !bytes.Equal(a.GetReplaced().GetDigest(), tt.before.Digest) {
					t.Errorf("on record: %s with %d icons, replaced %s", approval.Short(a.GetDigest()), len(a.GetDefinition().GetIcons()), approval.Short(a.GetReplaced().GetDigest()))
				}
				if kept := a.GetReplaced().GetDefinition() != nil; kept != tt.kept {
					t.Errorf("what was replaced is kept: %v, want %v", kept, tt.kept)
				}
				x.stop()
			})
		})
	}
}
