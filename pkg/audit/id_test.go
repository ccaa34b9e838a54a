package audit_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
)

func TestIDsSortInTheOrderTheyWereMade(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`)
	last := ""
	for range 10_000 {
		id := audit.NewID()
		if !form.MatchString(id) {
			t.Fatalf("got %q, want a ULID", id)
		}
		if id <= last {
			t.Fatalf("got %q after %q, want it greater", id, last)
		}
		last = id
	}
}

func TestAnIDBeginsWithTheTime(t *testing.T) {
	t.Parallel()
	before := time.Now().UnixMilli()
	id := audit.NewID()
	var ms int64
	for _, c := range id[:10] {
		ms = ms<<5 | int64(strings.IndexRune("0123456789ABCDEFGHJKMNPQRSTVWXYZ", c))
	}
	if after := time.Now().UnixMilli(); ms < before || ms > after {
		t.Errorf("got %d ms from %q, want %d to %d", ms, id, before, after)
	}
}

func TestADecisionIDIsAULIDWithAPrefix(t *testing.T) {
	t.Parallel()
	if id := audit.NewDecisionID(); len(id) != 28 || id[:2] != "d_" {
		t.Errorf("got %q", id)
	}
}

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		audit.NewID()
	}
}
