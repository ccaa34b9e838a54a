package personal

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// FuzzRuns holds what is found in runs against what the expressions find in the whole.
func FuzzRuns(f *testing.F) {
	for _, text := range []string{
		"DE89 3704 0044 0532 0130 00 a 4111 1111 1111 1111\u00e9",
		"x536-90-4399 536-90-4399x é536-90-4399_ 536-90-4399é\xff536-90-4399",
		"nino AB 12 34 56 C, dni 12345678Z;cpf 529.982.247-25",
		"212-555-0100 212-555-0101 +49 30 901820 or (212) 555-0100a",
		"378282246310005\n5555555555554444", "",
	} {
		f.Add(text)
	}
	f.Add("to a@b.example, b@c@d.example; \u212aim@e.example@f.example.")
	g := New()
	f.Fuzz(func(t *testing.T, text string) {
		var want []span.Found
		for i := range g.numbers {
			want = g.numbers[i].look(want, text, 0, len(text))
		}
		want = slices.DeleteFunc(want, func(one span.Found) bool {
			return len(text[one.Start:one.End])-len(strings.Map(noDigit, text[one.Start:one.End])) < 6
		})
		got := g.lookForNumbers(nil, text)
		if got, want := g.lookForMail(nil, text), g.mail.look(nil, text, 0, len(text)); !slices.Equal(got, want) {
			t.Errorf("%q: found mail at %v, want %v", text, got, want)
		}
		for _, one := range want {
			if !slices.Contains(got, one) {
				t.Errorf("%q: %s %q at %d is not found", text, one.Rule, text[one.Start:one.End], one.Start)
			}
		}
		for _, one := range got {
			if !slices.Contains(want, one) && len(strings.Map(noDigit, text[one.Start:one.End])) <= one.End-one.Start-6 {
				t.Errorf("%q: %s %q at %d is found", text, one.Rule, text[one.Start:one.End], one.Start)
			}
		}
	})
}

func noDigit(r rune) rune {
	if '0' <= r && r <= '9' {
		return -1
	}
	return r
}

// BenchmarkFind16K is of text with numbers that are no personal data.
func BenchmarkFind16K(b *testing.B) {
	text := strings.Repeat("2026-11-28T23:40:00Z INFO 192.0.2.7 order 4711 took 12.5 ms, v1.2.3 of Build 20260102 by a@b.example\n", 200)[:16<<10]
	g := New()
	b.Run("numbers", func(b *testing.B) {
		for b.Loop() {
			g.Find(text)
		}
	})
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			for i := range g.numbers {
				g.numbers[i].look(nil, text, 0, len(text))
			}
			g.mail.look(nil, text, 0, len(text))
		}
	})
}
