package template_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/template"
)

func TestMask(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, message, want string }{
		{"words stay", "cannot open the file", "cannot open the file"},
		{"numbers change", "took 12 of -3.5 at 99%", "took <*> of -<*> at <*>%"},
		{"numbers with units", "took 12ms, 3.5s", "took <*>ms, <*>s"},
		{"numbers within words", "worker-12 of node7", "worker-<*> of node<*>"},
		{"times", "at 2026-01-02T03:04:05.678+02:00 or 12:34:56", "at <*>T<*> or <*>"},
		{"addresses", "from 192.0.2.1:443 to 2001:db8::dead:beef", "from <*> to <*>"},
		{"a short address", "on fe80::1", "on <*>"},
		{"identifiers", "id 9f8a7b6c-1234-5678-9abc-def012345678", "id <*>"},
		{"hexadecimal", "at 0x7ffe12 commit deadbeef1", "at <*> commit <*>"},
		{"hexadecimal letters alone are words", "facade deadbeef", "facade deadbeef"},
		{"long identifiers", "trace 01J8ZQ4WXYKPRSTVWABCDEFGHJ", "trace <*>"},
		{"values of keys", "user=bob, n=5; x=\"a b\" c", "user=<*>, n=<*>; x=<*> c"},
		{"an equals sign alone", "a = b", "a = b"},
		{"quotes", `cannot read "a b" or 'c d' (it's "e`, `cannot read "<*>" or '<*>' (it's "e`},
		{"paths keep their words", "GET /orders/17/items/3", "GET /orders/<*>/items/<*>"},
		{"white space does not count", " a \t b ", "a b"},
		{"letters beyond ASCII stay", "größe 7 naïve", "größe <*> naïve"},
		{"nothing", "", ""},
		{"many words end in a wildcard", strings.Repeat("a ", 60), strings.Repeat("a ", 50) + "<*>"},
		{"long messages end in a wildcard", "b" + strings.Repeat("x", 2000), "b" + strings.Repeat("x", 1023) + " <*>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m template.Miner
			if got := m.Add(nil, []byte(tt.message)).Template(); got != tt.want {
				t.Errorf("Add(%q): got %q, want %q", tt.message, got, tt.want)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		messages []string // "label|message"
		want     []string
	}{{
		name:     "what changes becomes a wildcard",
		messages: []string{"|user bob logged in", "|user amy logged in", "|user bob logged in"},
		want:     []string{"user <*> logged in"},
	}, {
		name:     "two words of five may change, not three",
		messages: []string{"|one two three four five", "|one two three x y", "|one b c d e"},
		want:     []string{"one two three <*> <*>", "one b c d e"},
	}, {
		name:     "a group does not dissolve word by word",
		messages: []string{"|a b c d e", "|a b c d x", "|a b c y x", "|a b z y x"},
		want:     []string{"a b c <*> <*>", "a b z y x"},
	}, {
		name:     "the first word tells kinds apart",
		messages: []string{"|open the file now", "|close the file now"},
		want:     []string{"open the file now", "close the file now"},
	}, {
		name:     "labels tell kinds apart and are not masked",
		messages: []string{"500|GET /a", "404|GET /a", "500|GET /a"},
		want:     []string{"500 GET /a", "404 GET /a"},
	}, {
		name:     "messages of different length are different",
		messages: []string{"|a b c", "|a b c d"},
		want:     []string{"a b c", "a b c d"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m template.Miner
			for _, text := range tt.messages {
				label, message, _ := strings.Cut(text, "|")
				m.Add([]byte(label), []byte(message))
			}
			var got []string
			for i, g := range m.Groups() {
				if g.ID != i {
					t.Errorf("group %d has ID %d", i, g.ID)
				}
				got = append(got, g.Template())
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Groups (-want +got):\n%s", diff)
			}
		})
	}
}

// However many kinds there are, the groups are bounded and every message has one.
func TestBounded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, label, message string // with $ for a word
		want                 int
	}{
		{"kinds that differ in the first word", "", "$ is here", 1001},
		{"kinds that have the first word in common", "", "here $ $", 65},
		{"labels", "$", "is here", 1001},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m template.Miner
			for i := range 5000 {
				word := letters(i)
				label := []byte(strings.ReplaceAll(tt.label, "$", word))
				message := []byte(strings.ReplaceAll(tt.message, "$", word))
				if g := m.Add(label, message); g != m.Groups()[g.ID] {
					t.Fatalf("group %d is not listed", g.ID)
				}
			}
			if got := len(m.Groups()); got != tt.want {
				t.Errorf("got %d groups, want %d", got, tt.want)
			}
		})
	}
}

// letters writes a number without digits, each very different from the others.
func letters(n int) string {
	var b strings.Builder
	for range 5 {
		b.WriteByte("ghijklmnop"[n%10])
		n /= 10
	}
	return b.String()
}

// FuzzAdd holds that any messages are grouped, within bounds, and the same way
// each time.
func FuzzAdd(f *testing.F) {
	f.Add([]byte("user bob logged in\nuser amy logged in\nat 0x7f \"x y\" ::1"))
	f.Add([]byte("a=b,c='d\n\xff\xfe <*> <*>-<*>\n=\n'\n\"\"\n--12--\n1:2:3"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var a, b template.Miner
		messages := strings.Split(string(in), "\n")
		for _, m := range messages {
			ga, gb := a.Add(nil, []byte(m)), b.Add(nil, []byte(m))
			if ga.ID != gb.ID || ga != a.Groups()[ga.ID] {
				t.Fatalf("Add(%q): got group %d, and then %d", m, ga.ID, gb.ID)
			}
		}
		if len(a.Groups()) > len(messages) {
			t.Fatalf("got %d groups of %d messages", len(a.Groups()), len(messages))
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	in := []byte("payment for order 13601 failed: dial tcp 203.0.113.140:443: i/o timeout")
	var m template.Miner
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		m.Add(nil, in)
	}
}
