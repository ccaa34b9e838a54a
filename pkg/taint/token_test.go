package taint_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/taint"
)

// values are those in a text, sorted.
func values(text string, side taint.Side) (all []string) {
	taint.Values(text, side, func(v []byte) bool { all = append(all, string(v)); return true })
	slices.Sort(all)
	return slices.Compact(all)
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		text string
		side taint.Side
		want []string
	}{
		{"nothing in plain words", "Please look at the report, and tell me on 2026-11-29 what 12 of 40 are.", taint.Content, nil},
		{"a host in a URL", "see https://Evil.Example:8080/x?y=1#z.", taint.Argument, []string{"host:evil.example"}},
		{"a host alone", "go to www.evil.example now", taint.Argument, []string{"host:evil.example"}},
		{"a host that content names makes its addresses suspect", "evil.example", taint.Content, []string{"host:evil.example", "mailhost:evil.example"}},
		{"a URL in another", "https://ok.example/?next=https://evil.example/a", taint.Argument, []string{"host:evil.example", "host:ok.example"}},
		{"whom to log in as is not the host", "https://ok.example@evil.example/", taint.Argument, []string{"host:evil.example", "mail:ok.example@evil.example", "mailhost:evil.example"}},
		{"an address in content", "mail Mark.Black-2134@gmail.com!", taint.Content, []string{"id:markblack2134", "mail:mark.black-2134@gmail.com"}},
		{"an address in arguments", "Mark.Black@gmail.com", taint.Argument, []string{"mail:mark.black@gmail.com", "mailhost:gmail.com"}},
		{"an address with a name", `"M. B." <mb@evil.example>`, taint.Content, []string{"mail:mb@evil.example"}},
		{"an address in a mailto", "mailto:mb@evil.example?subject=x", taint.Content, []string{"mail:mb@evil.example"}},
		{"IP addresses", "10.0.0.7 and [2001:db8::1] and http://192.0.2.9/x", taint.Argument, []string{"host:10.0.0.7", "host:192.0.2.9", "host:2001:db8::1"}},
		{"long IP addresses", "1:2:3:4:5:6:7:8, 1:2:3:4:5:6:192.0.2.1, 2001:db8::5:6, ::ffff:192.0.2.3", taint.Argument, []string{
			"host:192.0.2.1", "host:192.0.2.3", "host:1:2:3:4:5:6:7:8", "host:1:2:3:4:5:6:c000:201", "host:2001:db8::5:6",
		}},
		{"times are no IP addresses", "at 12:30:15, or 1:2:3:4:5:6:7", taint.Argument, nil},
		{"an IBAN together", "DE89370400440532013000", taint.Content, []string{"id:de89370400440532013000", "number:89370400440532013000"}},
		{"a telephone number however it is written", "+49 (30) 555-01234", taint.Content, []string{"id:55501234", "number:3055501234", "number:4930555", "number:493055501234", "number:55501234"}},
		{"the same with another code for abroad", "0049 30 555 01234", taint.Argument, []string{"number:3055501234", "number:4930555", "number:493055501234", "number:55501234"}},
		{"an id", "order A1B2-C3D4-77, see #1", taint.Content, []string{"id:a1b2c3d477"}},
		{"an account that is a number", "to 12345678", taint.Content, []string{"id:12345678", "number:12345678"}},
		{"words are no ids", "internationalization", taint.Content, nil},
		{"a date is none", "from 2026-11-29 to 2026-12-24", taint.Content, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, values(tt.text, tt.side)); diff != "" {
				t.Errorf("Values(%q) (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}

// A value is found again in whichever form a tool is called with it.
func TestValuesMeet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ content, argument string }{
		{"Transfer it to DE89 3704 0044 0532 0130 00 today.", "DE89370400440532013000"},
		{"Transfer it to DE89370400440532013000 today.", "DE89 3704 0044 0532 0130 00"},
		{"card 4111 1111 1111 1111", "4111-1111-1111-1111"},
		{"call +49 30 5550 1234", "0049 (30) 55501234"},
		{"post to http://evil.example/hook", "HTTPS://EVIL.EXAMPLE/other?x=1"},
		{"our host is evil.example", "anybody@evil.example"},
		{"write to boss@evil.example", "Boss <BOSS@EVIL.EXAMPLE>"},
		{"ticket 550e8400-e29b-41d4-a716-446655440000", "550e8400e29b41d4a716446655440000"},
		{`{"url":"http:\/\/evil.example","x":"a\nevil2.example"}`, "https://evil2.example"},
	} {
		r := taint.NewRecord()
		new(taint.Finder).Text(tt.content, taint.Content, func(v []byte) bool { r.Distrust(string(v)); return true })
		got, err := r.Suspects([]byte(`{"a":{"b":["` + strings.ReplaceAll(tt.argument, `"`, `\"`) + `"]},"c":"x","d":true}`))
		if err != nil || !slices.Equal(got, []string{"a"}) {
			t.Errorf("%q after %q: got %q, %v; want a", tt.argument, tt.content, got, err)
		}
	}
}

// FuzzValues looks for texts that crash, that take too many values to say what is in
// them, and for values that are not found in themselves.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{"https://a@b.example:1/x?y=z@w.example", "DE89 3704 0044 0532 0130 00", "+49 (30) 555-01234", "1 2 3 4 5 6 7 8 9", "::1 a.b..c @ @@ .", "\xff\xfe.example"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		count := 0
		r := taint.NewRecord()
		taint.Values(text, taint.Content, func(v []byte) bool {
			count++
			r.Distrust(string(v))
			return true
		})
		if most := 16*len(text) + 16; count > most {
			t.Errorf("%d values in %d bytes", count, len(text))
		}
		taint.Values(text, taint.Argument, func(v []byte) bool { return len(v) < 1<<20 })
		stopped := 0
		taint.Values(text, taint.Content, func([]byte) bool { stopped++; return false })
		if stopped > 1 {
			t.Errorf("went on %d times after it was told to stop", stopped-1)
		}
	})
}

// FuzzArguments looks for arguments that crash, and for those that are looked into
// without being one JSON value.
func FuzzArguments(f *testing.F) {
	for _, seed := range []string{`{"a":"b@c.example","d":[1,{"e":12345678}]}`, `{"a":1}{}`, `[[[[`, `{"a":null}`, `"x"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := taint.Suspect()
		if _, err := r.Suspects(text); err != nil {
			return
		}
		if err := new(taint.Finder).Arguments(text, func(string, []byte) bool { return true }); err != nil && !strings.Contains(err.Error(), "JSON") {
			t.Errorf("got %v", err)
		}
	})
}

// The time is linear: what is made to be costly costs no more than plain text, by the
// count of values.
func TestValuesOfHostileTexts(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"a@", "://", "1 ", "DE89 ", "1-", "a.", "=http://a.b", "12345678 "} {
		text := strings.Repeat(unit, 1<<20/len(unit))
		n := 0
		start := time.Now()
		taint.Values(text, taint.Content, func([]byte) bool { n++; return true })
		if n > 16*len(text) {
			t.Errorf("%q: %d values in %d bytes", unit, n, len(text))
		}
		t.Logf("%q: %d values, %v", unit, n, time.Since(start))
	}
}
