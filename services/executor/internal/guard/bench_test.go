package guard_test

import (
	"go/build"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
)

// prose is benign text in English, code and Markdown: the comments and code of Go's
// standard library, which everybody who builds this has. Of its tests and test data
// nothing is in it; there are real keys there.
func prose(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, pattern := range []string{"fmt/*.go", "net/http/*.go", "encoding/json/*.go", "go/doc/*.go", "time/*.go", "os/*.go", "text/template/*.go", "database/sql/*.go", "log/slog/*.go", "net/url/*.go"} {
		files, err := filepath.Glob(filepath.Join(build.Default.GOROOT, "src", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(raw)
		}
	}
	if b.Len() < 1<<20 {
		t.Fatal("the sources of Go, which are the benign text here, are not in GOROOT/src")
	}
	return b.String()
}

func chunks(text string, size int) []string {
	var all []string
	for len(text) >= size {
		all = append(all, strings.ToValidUTF8(text[:size], ""))
		text = text[size:]
	}
	return all
}

// Benign text is left alone. It prints the figures of the README.
func TestFalsePositives(t *testing.T) {
	t.Parallel()
	c := chain(t)
	text := prose(t)
	for _, size := range []int{1 << 10, 16 << 10, 256 << 10} {
		all, changed, by := chunks(text, size), 0, make(map[string]uint32)
		for _, text := range all {
			check := c.For(t.Context(), guard.Call{Tool: "t"})
			left, blocked := check.Text(text, "")
			for _, f := range check.Findings() {
				by[f.GetGuard()+" "+f.GetRule()] += f.GetCount()
			}
			if blocked != nil || left != text {
				changed++
				t.Logf("%v", told(check.Findings()))
			}
		}
		t.Logf("%d texts of %d KiB: %d changed; findings: %v", len(all), size>>10, changed, by)
		if changed*1000 > len(all) {
			t.Errorf("%d of %d benign texts were changed, want at most 0.1 %%", changed, len(all))
		}
	}
}

// The default chain on 16 KiB of benign text, a different one each time.
func BenchmarkText16K(b *testing.B) {
	c := chain(b)
	all := chunks(prose(b), 16<<10)
	for _, text := range all { // compiles the rules that are needed
		_, _ = c.For(b.Context(), guard.Call{Tool: "t"}).Text(text, "")
	}
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, _ = c.For(b.Context(), guard.Call{Tool: "t"}).Text(all[i%len(all)], "")
	}
	// What else the machine does shall not count: of each text the best of a few times.
	var best []time.Duration
	for _, text := range all {
		least := time.Hour
		for range 5 {
			start := time.Now()
			_, _ = c.For(b.Context(), guard.Call{Tool: "t"}).Text(text, "")
			least = min(least, time.Since(start))
		}
		best = append(best, least)
	}
	slices.Sort(best)
	b.ReportMetric(float64(best[len(best)*99/100].Microseconds()), "p99-µs")
}

// Arguments of 300 bytes and a result of 1 kB, as of most calls.
func BenchmarkCall(b *testing.B) {
	c := chain(b)
	text := chunks(prose(b), 1000)
	arguments := []byte(`{"query":"select name, city from customers where city = 'Zürich' order by name limit 20","limit":20,"options":{"format":"table","locale":"de-CH","columns":["name","city","since","revenue"]},"reason":"the quarterly report for the board needs the list of all customers in the city, by name"}`)
	result := []byte(`{"text":"` + strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == '\\' {
			return ' '
		}
		return r
	}, text[7]) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		check := c.For(b.Context(), guard.Call{Tool: "t"})
		if check.Arguments(arguments) != nil {
			b.Fatal("blocked")
		}
		if _, blocked := check.JSON(result, ""); blocked != nil {
			b.Fatal("blocked")
		}
	}
}

// Text made to be costly: keywords without end.
func BenchmarkHostile16K(b *testing.B) {
	c := chain(b)
	for name, unit := range map[string]string{
		"keys": "api=", "curl": "curl ", "jwt": "ey.", "begin": "-----BEGIN ", "brackets": "](", "esc": "\x1b]", "c1": "\u009d", "zwj": "👩\u200d", "ignore": "ignore all ", "base64": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ", "api-words": "api.key.token.secret.",
	} {
		text := strings.Repeat(unit, 16<<10/len(unit))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				_, _ = c.For(b.Context(), guard.Call{Tool: "t"}).Text(text, "")
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := guard.New(guard.DefaultConfig(), nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}
