package index_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/index"
)

func open(t testing.TB, dir string) *index.Index {
	t.Helper()
	x, err := index.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func entry(t testing.TB, n int, target string) index.Entry {
	t.Helper()
	raw, err := proto.Marshal(&auditv1.Event{
		Id: fmt.Sprintf("01KJKZ%020d", n), Time: timestamppb.New(begin.Add(time.Duration(n) * time.Millisecond)),
		Service: "executor", Node: "node-1", DecisionId: fmt.Sprintf("d_01KJKZ%020d", n/3),
		Actor:       &auditv1.Actor{Principal: fmt.Sprintf("key:%d", n%50), Tenant: "acme", Roles: []string{"analyst"}, Address: "192.0.2.1", Client: "agent/1.0"},
		Traceparent: fmt.Sprintf("00-%032x-%016x-01", n+1, n+1), Action: "tools/call", Target: target,
		What: &auditv1.Event_Intent{Intent: &auditv1.Intent{
			Service:   "basics",
			Arguments: &auditv1.Arguments{Sha256: make([]byte, 32), Shape: "{query: string(42)}"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := index.NewEntry(raw, uint64(n))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEntriesAndHeadAreKeptTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	x := open(t, dir)
	if h, err := x.Head(t.Context()); err != nil || h != (index.Head{}) {
		t.Errorf("a new index: got head %v, %v, want none", h, err)
	}
	var entries []index.Entry
	for n := range 21 { // some statements of many rows, and some of one
		entries = append(entries, entry(t, n, "a"))
	}
	head := index.Head{Stream: begin, Sequence: 20, Sum: [32]byte{1, 31: 2}}
	if added, err := x.Apply(t.Context(), entries, head); err != nil || added != 21 {
		t.Fatalf("Apply: got %d, %v, want 21", added, err)
	}
	if added, err := x.Apply(t.Context(), entries, head); err != nil || added != 0 {
		t.Errorf("Apply again: got %d, %v, want 0", added, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Apply(ctx, []index.Entry{entry(t, 30, "b")}, index.Head{Stream: begin, Sequence: 30}); err == nil {
		t.Error("Apply with a canceled context: got nil, want an error")
	}

	again := open(t, dir)
	h, err := again.Head(t.Context())
	if err != nil || !h.Stream.Equal(head.Stream) || h.Sequence != head.Sequence || h.Sum != head.Sum {
		t.Errorf("opened again: got head %v, %v, want %v", h, err, head)
	}
	rows, _, err := again.ByTime(t.Context(), index.Page{Limit: 100, OldestFirst: true})
	if err != nil || len(rows) != len(entries) {
		t.Fatalf("opened again: got %d rows, %v, want %d", len(rows), err, len(entries))
	}
	for i, r := range rows {
		if r.Key != entries[i].Key || !bytes.Equal(r.Raw, entries[i].Raw) || r.Sequence != uint64(i) {
			t.Errorf("row %d: got %v, want %v", i, r, entries[i])
		}
	}
}

func TestAPageIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	x := open(t, t.TempDir())
	const events = 60
	var entries []index.Entry
	for n := range events {
		entries = append(entries, entry(t, n, strings.Repeat("x", 60<<10)))
	}
	if _, err := x.Apply(t.Context(), entries, index.Head{Stream: begin, Sequence: events}); err != nil {
		t.Fatal(err)
	}
	p := index.Page{Limit: 1000, OldestFirst: true}
	var got []string
	pages := 0
	for more := true; more; pages++ {
		var rows []index.Row
		var err error
		if rows, more, err = x.ByTime(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, r := range rows {
			size += len(r.Raw)
			got = append(got, r.ID)
		}
		if size > 3<<20 {
			t.Errorf("page %d has %d bytes", pages, size)
		}
		p.After = &rows[len(rows)-1].Key
	}
	if len(got) != events || pages != 2 || !slices.IsSorted(got) {
		t.Errorf("got %d events on %d pages, want %d on 2", len(got), pages, events)
	}
}

func TestSinceGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	x := open(t, t.TempDir())
	var entries []index.Entry
	for n := range 10 {
		entries = append(entries, entry(t, 100-n, fmt.Sprint("t", n%2))) // the newest first
	}
	if _, err := x.Apply(t.Context(), entries, index.Head{Stream: begin, Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	f := &auditv1.Filter{Targets: []string{"t0"}}
	var got []int
	position := int64(0)
	for more := true; more; {
		var rows []index.Row
		var err error
		if rows, position, more, err = x.Since(t.Context(), f, position, 2); err != nil {
			t.Fatal(err)
		}
		got = append(got, len(rows))
	}
	if diff := cmp.Diff([]int{2, 2, 1}, got); diff != "" {
		t.Errorf("rows of each call (-want +got):\n%s", diff)
	}
	if position != 10 {
		t.Errorf("got position %d, want the end, also if it does not match", position)
	}
}

func TestTheIndexIsNotReadableForOthers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "audit")
	open(t, dir)
	for _, name := range []string{"", "index.db", "index.db-wal", "index.db-shm"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q: got %v, %v, want nothing for group and others", name, info.Mode(), err)
		}
	}
}

func TestAFileThatIsNoIndexIsUnusable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.db"), bytes.Repeat([]byte("x"), 9000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := index.Open(t.Context(), dir); !errors.Is(err, index.ErrUnusable) {
		t.Errorf("got error %v, want ErrUnusable", err)
	}
	name, err := index.SetAside(dir, begin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
		t.Errorf("the file that was set aside: %v", err)
	}
	open(t, dir)
}

func FuzzTargetsMatchAsPrefixes(f *testing.F) {
	f.Add("run_sql_query", "run_")
	f.Add("a\U0010FFFFb", "a")
	f.Add("a\U0010FFFFb", "a\U0010FFFF")
	f.Add("\uD7FFx", "\uD7FF")
	f.Add("\uE000", "\uD7FF")
	f.Add("", "")
	f.Add("%", "_")
	f.Add("a\x00b", "a\x00")
	f.Add("aB", "ab")
	x := open(f, f.TempDir())
	n := 0
	f.Fuzz(func(t *testing.T, target, prefix string) {
		target, prefix = strings.ToValidUTF8(target, "?"), strings.ToValidUTF8(prefix, "?")
		if n++; len(prefix)+1 > 512 {
			return
		}
		e := entry(t, n, target)
		if _, err := x.Apply(t.Context(), []index.Entry{e}, index.Head{Stream: begin, Sequence: 1}); err != nil {
			t.Fatal(err)
		}
		since := timestamppb.New(begin.Add(time.Duration(n) * time.Millisecond))
		for pattern, want := range map[string]bool{
			prefix + "*": strings.HasPrefix(target, prefix),
			prefix:       target == prefix,
		} {
			if pattern != prefix+"*" && strings.HasSuffix(pattern, "*") {
				continue
			}
			rows, _, err := x.ByTime(t.Context(), index.Page{Filter: &auditv1.Filter{Targets: []string{pattern}, Since: since}, Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(rows) == 1; got != want {
				t.Errorf("target %q, pattern %q: got %v, want %v", target, pattern, got, want)
			}
		}
	})
}

func FuzzNewEntry(f *testing.F) {
	f.Add(entry(f, 1, "echo").Raw)
	f.Add([]byte{})
	f.Add([]byte("\x0a\x1a01KJKZ00000000000000000001\x12\x00\x52\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := index.NewEntry(raw, 1)
		if err == nil && (len(e.ID) != 26 || e.Time <= 0) {
			t.Errorf("got %v, want it refused", e)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	for _, size := range []int{3, 30, 250, 2000} {
		b.Run(fmt.Sprintf("%d events", size), func(b *testing.B) {
			x := open(b, b.TempDir())
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				var entries []index.Entry
				for range size {
					n++
					entries = append(entries, entry(b, n, fmt.Sprintf("tool-%d", n%12)))
				}
				if _, err := x.Apply(b.Context(), entries, index.Head{Stream: begin, Sequence: uint64(n)}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
		})
	}
}

func BenchmarkQueryOneInAHundredThousand(b *testing.B) {
	x := open(b, b.TempDir())
	const events = 100_000
	for from := 0; from < events; from += 2000 {
		var entries []index.Entry
		for n := from; n < from+2000; n++ {
			entries = append(entries, entry(b, n, fmt.Sprintf("tool-%d", n%12)))
		}
		if _, err := x.Apply(b.Context(), entries, index.Head{Stream: begin, Sequence: 1}); err != nil {
			b.Fatal(err)
		}
	}
	for name, f := range map[string]*auditv1.Filter{
		"newest":    nil,
		"decision":  {DecisionIds: []string{fmt.Sprintf("d_01KJKZ%020d", 5)}},
		"principal": {Principals: []string{"key:7"}},
		"trace":     {TraceId: fmt.Sprintf("%032x", 8)},
		"target":    {Targets: []string{"tool-1*"}},
		"nothing":   {Tenant: "globex"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := x.ByTime(b.Context(), index.Page{Filter: f, Limit: 100}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
