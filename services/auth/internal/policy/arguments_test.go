package policy_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

func TestParseArgumentsRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
	}{
		{"nothing", ``},
		{"an array", `[]`},
		{"a null", `null`},
		{"half an object", `{"a":1`},
		{"a duplicate member", `{"a":1,"a":2}`},
		{"a duplicate member that is null", `{"a":null,"a":2}`},
		{"a duplicate member in other letters", `{"a":1,"\u0061":2}`},
		{"a second value", `{} {}`},
		{"trailing bytes", `{}x`},
		{"invalid UTF-8", "{\"a\":\"\xff\"}"},
		{"half a surrogate pair", `{"a":"\ud800"}`},
		{"a number too large for anybody", `{"a":1e400}`},
		{"an exponent too large for anybody", `{"a":1e99999999999999999999}`},
		{"a member too many", `{"a":[` + strings.Repeat("1,", 10000) + `1]}`},
		{"nesting without end", `{"a":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := policy.ParseArguments([]byte(tt.text)); !errors.Is(err, policy.ErrArguments) {
				t.Errorf("got error %v, want %v", err, policy.ErrArguments)
			}
		})
	}
}

func TestNumbersAreExact(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		text  string // a JSON number
		equal string // a Cedar value
	}{
		{"an integer", `7`, `7`},
		{"a negative one", `-7`, `-7`},
		{"minus zero", `-0`, `0`},
		{"zero with an exponent", `0e99999999999999999999`, `0`},
		{"an exponent", `1E+3`, `1000`},
		{"an exponent that takes a fraction away", `0.0012e4`, `12`},
		{"a fraction of zeros", `1000.000000`, `1000`},
		{"the largest", `9223372036854775807`, `9223372036854775807`},
		{"the smallest", `-9223372036854775808`, `-9223372036854775808`},
		{"one more than the largest", `9223372036854775808`, `"9223372036854775808e0"`},
		{"what floating point would round to a whole number", `0.99999999999999999999`, `"99999999999999999999e-20"`},
		{"four decimals", `-1.2345`, `decimal("-1.2345")`},
		{"less than one", `0.05`, `decimal("0.05")`},
		{"five decimals", `1.23456`, `"123456e-5"`},
		{"the same number in another form", `12345.6e-4`, `"123456e-5"`},
		{"a number too large for an integer", `1e300`, `"1e300"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set := load(t, `@id("a") permit (principal, action, resource) when { context.arguments.n == `+tt.equal+` };`)
			got := set.Match(caller("a"), call, tool("look", reader)).Decide(situation(t, `{"n":`+tt.text+`}`))
			if got.Verdict != policy.Allow {
				t.Errorf("%s is not %s", tt.text, tt.equal)
			}
		})
	}
}

func FuzzParseArguments(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a":[1,"b",null,{"c":1e3}]}`, `{"a":-0.00e-5}`, `{"a":1,"a":1}`, `{"\ud800":1}`, `[{}]`, `{"n":1.5e300}`,
	} {
		f.Add([]byte(seed))
	}
	set, err := policy.Load([]policy.File{{Name: "x.cedar", Text: []byte(
		`@id("a") permit (principal, action, resource) when { context.arguments.n == 1000 };`)}})
	if err != nil {
		f.Fatal(err)
	}
	m := set.Match(caller("a"), call, tool("look", reader))
	f.Fuzz(func(t *testing.T, text []byte) {
		arguments, err := policy.ParseArguments(text)
		if err != nil {
			if !errors.Is(err, policy.ErrArguments) {
				t.Errorf("got error %v, which is not of its kind", err)
			}
			return
		}
		// An independent reading: what we accept is an object for encoding/json
		// too, and its n is 1000 for us exactly if it is for big.Rat.
		var other struct {
			N json.RawMessage `json:"n"`
		}
		if err := json.Unmarshal(text, &other); err != nil {
			t.Fatalf("we accept %q, and encoding/json says %v", text, err)
		}
		var exact map[string]json.RawMessage
		if err := json.Unmarshal(text, &exact); err != nil {
			t.Fatal(err)
		}
		number := string(exact["n"])
		if len(number) > 12 {
			return // big.Rat would take forever on a large exponent
		}
		rat, ok := new(big.Rat).SetString(number)
		want := ok && rat.Cmp(big.NewRat(1000, 1)) == 0
		s := situation(t, "")
		s.Arguments = arguments
		if got := m.Decide(s).Verdict == policy.Allow; got != want {
			t.Errorf("n = %s: got equal to 1000 %v, want %v", number, got, want)
		}
	})
}
