package match_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/match"
)

func TestSet(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		patterns []string
		list     bool
		yes, no  []string
	}{{
		name:     "a literal matches itself only",
		patterns: []string{"echo"},
		yes:      []string{"echo"},
		no:       []string{"", "echo2", "ech", "Echo"},
	}, {
		name:     "one of several is enough",
		patterns: []string{"a", "b"},
		yes:      []string{"a", "b"},
		no:       []string{"", "ab", "c"},
	}, {
		name:     "a star stands for any text, even none",
		patterns: []string{"get_*"},
		yes:      []string{"get_", "get_customer"},
		no:       []string{"", "get", "forget_it"},
	}, {
		name:     "stars in the middle and at the end",
		patterns: []string{"*_a*b"},
		yes:      []string{"_ab", "x_aab", "_a_ab"},
		no:       []string{"ab", "_abc", "_a"},
	}, {
		name:     "a lone star means present",
		patterns: []string{"*"},
		yes:      []string{"x"},
		no:       []string{""},
	}, {
		name:     "what is not wanted is all else, absent too",
		patterns: []string{"!tools/call"},
		yes:      []string{"", "tools/list"},
		no:       []string{"tools/call"},
	}, {
		name:     "wanted but for some",
		patterns: []string{"tools/*", "!tools/call"},
		yes:      []string{"tools/list"},
		no:       []string{"", "tools/call", "ping"},
	}, {
		name:     "a list meets it by any part",
		patterns: []string{"admin"},
		list:     true,
		yes:      []string{"admin", "intern,admin", "admin,x"},
		no:       []string{"", "intern", "administrator"},
	}, {
		name:     "a list fails by any unwanted part",
		patterns: []string{"!admin"},
		list:     true,
		yes:      []string{"", "intern,analyst"},
		no:       []string{"intern,admin"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := match.NewSet(tt.patterns)
			if err != nil {
				t.Fatal(err)
			}
			if tt.list {
				s = s.Listed()
			}
			for _, v := range tt.yes {
				if !s.Match(v) {
					t.Errorf("Match(%q): got false, want true", v)
				}
			}
			for _, v := range tt.no {
				if s.Match(v) {
					t.Errorf("Match(%q): got true, want false", v)
				}
			}
		})
	}
}

func TestNewSetRefuses(t *testing.T) {
	t.Parallel()
	for _, patterns := range [][]string{nil, {""}, {"!"}, {"a", ""}, {strings.Repeat("a", 513)}} {
		if _, err := match.NewSet(patterns); err == nil {
			t.Errorf("NewSet(%.20q): got no error", patterns)
		}
	}
}

func TestLiterals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		patterns []string
		want     []string
		only     bool
	}{
		{[]string{"a", "b"}, []string{"a", "b"}, true},
		{[]string{"a", "!b"}, []string{"a", "b"}, true},
		{[]string{"a", "b*"}, []string{"a"}, false},
		{[]string{"!a"}, []string{"a"}, false},
	}
	for _, tt := range tests {
		s, err := match.NewSet(tt.patterns)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, s.Literals()); diff != "" {
			t.Errorf("Literals of %q (-want +got):\n%s", tt.patterns, diff)
		}
		if got := s.Only(); got != tt.only {
			t.Errorf("Only of %q: got %v, want %v", tt.patterns, got, tt.only)
		}
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		field string
		same  []string // one key
		other []string // none of them has it
	}{{
		name:  "IPv4 counts whole, also when written as IPv6",
		field: "ip",
		same:  []string{"192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"},
		other: []string{"192.0.2.2", "::192.0.2.1", ""},
	}, {
		name:  "IPv6 counts by /64, whatever the case and the zone",
		field: "ip",
		same:  []string{"2001:db8::1", "2001:DB8:0:0:ffff::2", "2001:db8::%eth0"},
		other: []string{"2001:db8:0:1::1", "2001:db9::1"},
	}, {
		name:  "a shorter prefix takes more together",
		field: "ip/56",
		same:  []string{"2001:db8:0:1::1", "2001:db8:0:ff::1"},
		other: []string{"2001:db8:0:100::1"},
	}, {
		name:  "a prefix that cuts a byte",
		field: "ip/61",
		same:  []string{"2001:db8::1", "2001:db8:0:7::1"},
		other: []string{"2001:db8:0:8::1"},
	}, {
		name:  "a prefix leaves IPv4 whole",
		field: "ip/8",
		same:  []string{"10.0.0.1"},
		other: []string{"10.0.0.2"},
	}, {
		name:  "the longest prefix is the address",
		field: "ip/128",
		same:  []string{"2001:db8::1", "2001:db8:0::1"},
		other: []string{"2001:db8::2"},
	}, {
		name:  "any other attribute is taken as it is",
		field: "user",
		same:  []string{"192.0.2.1"},
		other: []string{"::ffff:192.0.2.1", "not an address"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, err := match.NewField(tt.field)
			if err != nil {
				t.Fatal(err)
			}
			key := func(v string) string {
				b, err := f.Append(nil, v)
				if err != nil {
					t.Fatalf("Append(%q): %v", v, err)
				}
				return string(b)
			}
			want := key(tt.same[0])
			for _, v := range tt.same {
				if got := key(v); got != want {
					t.Errorf("key of %q: got %x, want %x as of %q", v, got, want, tt.same[0])
				}
			}
			for _, v := range tt.other {
				if got := key(v); got == want {
					t.Errorf("key of %q: got the key of %q", v, tt.same[0])
				}
			}
		})
	}
}

func TestOneNetworkIsOneKey(t *testing.T) {
	t.Parallel()
	f, err := match.NewField("ip")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for i := range 1 << 16 {
		key, err := f.Append(nil, fmt.Sprintf("2001:db8:1:2:%x::%x", i, i))
		if err != nil {
			t.Fatal(err)
		}
		keys[string(key)] = true
	}
	if len(keys) != 1 {
		t.Errorf("65536 addresses of one /64: got %d keys, want 1", len(keys))
	}
}

func TestKeysDoNotRunTogether(t *testing.T) {
	t.Parallel()
	field := match.Field{Attribute: "user"}
	keys := map[string][]string{}
	for _, values := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}, {"\x01a", "bc"}} {
		var key []byte
		for _, v := range values {
			key, _ = field.Append(key, v)
		}
		if other, ok := keys[string(key)]; ok {
			t.Errorf("%q and %q: got one key, want two", values, other)
		}
		keys[string(key)] = values
	}
}

func TestNewFieldRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"ip/", "ip/0", "ip/129", "ip/x", "ip/64/1", "user/3"} {
		if f, err := match.NewField(text); err == nil {
			t.Errorf("NewField(%q): got %v, want an error", text, f)
		}
	}
}

func FuzzAppend(f *testing.F) {
	for _, s := range []string{"", "192.0.2.1", "::ffff:1.2.3.4", "fe80::1%en0", "1.2.3", "2001:db8::/32", "::1\x00"} {
		f.Add(s)
	}
	field, err := match.NewField("ip")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := field.Append([]byte("before"), text)
		if err != nil && !errors.Is(err, match.ErrAddress) {
			t.Fatalf("Append(%q): got error %v, want ErrAddress", text, err)
		}
		key, ok := bytes.CutPrefix(key, []byte("before"))
		if !ok {
			t.Fatalf("Append(%q) changed what was there", text)
		}
		addr, parseErr := netip.ParseAddr(text)
		if (err != nil) != (parseErr != nil && text != "") {
			t.Fatalf("Append(%q): got error %v, the parser says %v", text, err, parseErr)
		}
		if err != nil || text == "" {
			return
		}
		want := addr.Unmap().AsSlice()
		if len(want) == 16 {
			clear(want[8:])
		}
		if want = slices.Insert(want, 0, byte(len(want))); !bytes.Equal(key, want) {
			t.Errorf("Append(%q): got %x, want %x", text, key, want)
		}
	})
}

func FuzzSet(f *testing.F) {
	f.Add("*a*b*", "xxaxxb")
	f.Add("!a", "a")
	f.Add("a*", "a")
	f.Fuzz(func(t *testing.T, pattern, value string) {
		set, err := match.NewSet([]string{pattern})
		if err != nil {
			return
		}
		text, unwanted := strings.CutPrefix(pattern, "!")
		want := value != "" && slowGlob(strings.Split(text, "*"), value)
		if unwanted {
			want = !want
		}
		if got := set.Match(value); got != want {
			t.Errorf("Match(%q) of %q: got %v, want %v", value, pattern, got, want)
		}
	})
}

// slowGlob finds the parts between stars in value, first come first served.
func slowGlob(parts []string, value string) bool {
	if len(parts) == 1 {
		return parts[0] == value
	}
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(value, first) || len(value) < len(first)+len(last) || !strings.HasSuffix(value, last) {
		return false
	}
	value = value[len(first) : len(value)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		_, after, ok := strings.Cut(value, p)
		if !ok {
			return false
		}
		value = after
	}
	return true
}
