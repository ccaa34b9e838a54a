package personal_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/personal"
)

func TestFind(t *testing.T) {
	t.Parallel()
	g := personal.New()
	for text, want := range map[string][]string{
		"write to anna.b+c@mail.example.org.":  {"email anna.b+c@mail.example.org"},
		"call +49 30 901820 or (212) 555-0100": {"phone +49 30 901820", "phone (212) 555-0100"},
		"212-555-0100 212-555-0101":            {"phone 212-555-0100", "phone 212-555-0101"},
		"card 4111 1111 1111 1111, cvv":        {"card 4111 1111 1111 1111"},
		"card 4111 1111 1111 1112, cvv":        nil,
		"5555555555554444":                     {"card 5555555555554444"},
		"378282246310005":                      {"card 378282246310005"},
		"0000000000000000":                     nil,
		"order 1234567890123456":               nil,
		"DE89 3704 0044 0532 0130 00":          {"iban DE89 3704 0044 0532 0130 00"},
		"GB82WEST12345698765432":               {"iban GB82WEST12345698765432"},
		"GB82WEST12345698765431":               nil,
		"ssn 536-90-4399":                      {"us-ssn 536-90-4399"},
		"ssn 000-90-4399, 666-12-1234":         nil,
		"cpf 529.982.247-25":                   {"cpf 529.982.247-25"},
		"cpf 529.982.247-26":                   nil,
		"dni 12345678Z":                        {"es-dni 12345678Z"},
		"dni 12345678A":                        nil,
		"nir 2 55 08 14 168 025 38":            {"fr-nir 2 55 08 14 168 025 38"},
		"nir 2 55 08 14 168 025 39":            nil,
		"nino AB 12 34 56 C":                   {"uk-nino AB 12 34 56 C"},
		"2026-11-28T23:40:00Z 192.0.2.7":       nil,
		"v1.2.3-4567890 sha 0123456789abcdef":  nil,
		"a@b, @home, x@localhost":              nil,
		"550e8400-e29b-41d4-a716-446655440000": nil,
	} {
		var got []string
		for _, f := range g.Find(text) {
			got = append(got, f.Rule+" "+text[f.Start:f.End])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add("DE89 3704 0044 0532 0130 00 a@b.cd 4111 1111 1111 1111")
	f.Add("2 55 2A 14 168 025 38 12345678Z 529.982.247-25")
	g := personal.New()
	f.Fuzz(func(t *testing.T, text string) {
		at := 0
		for _, one := range g.Find(strings.ToValidUTF8(text, "")) {
			if one.Start < at || one.End <= one.Start || one.End > len(text) {
				t.Fatalf("found %+v in %q", one, text)
			}
			at = one.End
		}
	})
}
