package tool_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// order is a good order with something added or replaced.
func order(more string) string {
	base := `"name":"soup","guests":2,"must":{}`
	if more == "" {
		return "{" + base + "}"
	}
	return "{" + base + "," + more + "}"
}

func TestDecode(t *testing.T) {
	t.Parallel()
	kitchen := tooltest.Tools(t, "kitchen")["cook_dish"]
	ok := []struct {
		name, arguments string
		want            string // as protojson has it, less the base
	}{
		{"nothing but what is required", order(""), ``},
		{"an integer with an exponent", order(`"table":1e1`), `"table":10`},
		{"an integer with an empty fraction", order(`"table":10.0`), `"table":10`},
		{"minus zero where there are no negatives", order(`"table":-0,"total":-0`), ``},
		{"a 64-bit integer as a number", order(`"serial":9007199254740993`), `"serial":"9007199254740993"`},
		{"a 64-bit integer as a string", order(`"serial":"9007199254740993"`), `"serial":"9007199254740993"`},
		{"the largest", order(`"total":18446744073709551615`), `"total":"18446744073709551615"`},
		{"base64 without padding", order(`"photo":"AQI"`), `"photo":"AQI="`},
		{"bytes", order(`"photo":"AQID"`), `"photo":"AQID"`},
		{"an enum by name", order(`"course":"COURSE_MAIN"`), `"course":"COURSE_MAIN"`},
		{"a map", order(`"prices":{"a":1,"b":2},"seats":{"-1":"x"}`), `"prices":{"a":1,"b":2},"seats":{"-1":"x"}`},
		{"empty lists and maps", order(`"prices":{},"sides":[]`), ``},
		{"recursion", order(`"recipe":{"text":"a","then":[{"text":"b"}]}`), `"recipe":{"text":"a","then":[{"text":"b"}]}`},
		{"times", order(`"at":"2026-01-02T03:04:05.6Z","rest":"1.500s"`), `"at":"2026-01-02T03:04:05.600Z","rest":"1.500s"`},
		{"dynamic values", order(`"anything":[null,true,1.5,"x",{"a":{}}],"extra":{"k":null},"list":[1]`), `"anything":[null,true,1.5,"x",{"a":{}}],"extra":{"k":null},"list":[1]`},
		{"dynamic null", order(`"anything":null`), `"anything":null`},
		{"a null wrapper is none", order(`"note":null`), ``},
		{"an empty wrapper is one", order(`"note":""`), `"note":""`},
		{"a field mask", order(`"mask":"aB,c"`), `"mask":"aB,c"`},
		{"escapes", order(`"card":"\u00e9\n\ud83d\ude00"`), `"card":"é\n😀"`},
		{"a member of a oneof that is zero", order(`"cash":false`), `"cash":false`},
	}
	for _, tt := range ok {
		t.Run(tt.name, func(t *testing.T) {
			m, wrong, err := kitchen.Decode([]byte(tt.arguments))
			if err != nil || len(wrong) > 0 {
				t.Fatalf("Decode: %v %v", wrong, err)
			}
			want := m.ProtoReflect().New().Interface()
			if err := protojson.Unmarshal([]byte(order(tt.want)), want); err != nil {
				t.Fatal(err)
			}
			// Unordered maps: compare what protojson makes of both.
			if diff := cmp.Diff(protojson.Format(want), protojson.Format(m)); diff != "" {
				t.Errorf("Decode (-want +got):\n%s", diff)
			}
		})
	}
}

// members are so many members of an object.
func members(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`"k%d":1`, i)
	}
	return strings.Join(all, ",")
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	kitchen := tooltest.Tools(t, "kitchen")["cook_dish"]
	deep := strings.Repeat(`{"text":"a","then":[`, 70) + strings.Repeat(`]}`, 70)
	tests := []struct {
		name, arguments string
		want            []string // "pointer message"
	}{
		{"no object", `[]`, []string{` must be one JSON object`}},
		{"nothing", ``, []string{` must be one JSON object`}},
		{"trailing bytes", order("") + `{}`, []string{` must be one JSON object and nothing after it`}},
		{"broken JSON", `{"name":"soup"`, []string{` is not valid JSON`}},
		{"bad UTF-8", "{\"name\":\"\xff\"}", []string{`/name is not valid JSON`}},
		{"a name twice", order(`"guests":3`), []string{`/guests is given twice`}},
		{"a name twice deep down", order(`"recipe":{"text":"a","text":"b"}`), []string{`/recipe/text is given twice`}},
		{"required fields", `{}`, []string{`/name is required`, `/guests is required`, `/must is required`}},
		{"a required field of the wrong type is told of once", `{"name":1,"guests":2,"must":{}}`, []string{`/name must be a string, not a number`}},
		{"a field that is not known", order(`"salt":1`), []string{`/salt is not known; known are: name, id, `}},
		{"a name in the other spelling", `{"name":"soup","guests":2,"must":{},"must_":1}`, []string{`/must_ is not known`}},
		{"null for absent", order(`"card":null`), []string{`/card must be a string, not null; leave it out if it is not wanted`}},
		{"a number as a string", order(`"table":"1"`), []string{`/table must be an integer from 0 to 4294967295, not a string`}},
		{"a fraction", order(`"table":1.5`), []string{`/table must be an integer from 0 to 4294967295`}},
		{"too large for the type", order(`"table":4294967296`), []string{`/table must be an integer from 0 to 4294967295`}},
		{"a huge exponent", order(`"table":1e999999999`), []string{`/table is a number that is too long or too large`}},
		{"too large for a double", order(`"weight":1e400`), []string{`/weight is a number that is too long or too large`}},
		{"too large for a float", order(`"heat":1e39`), []string{`/heat must be a number of 32-bit range`}},
		{"a word for a number", order(`"heat":"NaN"`), []string{`/heat must be a number of 32-bit range, not a string`}},
		{"a 64-bit integer with a plus", order(`"serial":"+1"`), []string{`/serial must be a 64-bit integer`}},
		{"a number for a boolean", order(`"spicy":1`), []string{`/spicy must be true or false, not a number`}},
		{"an enum by number", order(`"course":2`), []string{`/course must be one of the names in the schema, not a number`}},
		{"an enum that is not there", order(`"course":"X"`), []string{`/course must be one of the names in the schema`}},
		{"an enum that is forbidden", order(`"course":"COURSE_SECRET"`), []string{`/course must be one of the names in the schema`}},
		{"base64 of two alphabets", order(`"photo":"/-8"`), []string{`/photo must be a string of base64`}},
		{"no base64", order(`"photo":"a b"`), []string{`/photo must be a string of base64`}},
		{"no time", order(`"at":"yesterday"`), []string{`/at must be a time in RFC 3339, such as "2026-01-31T10:00:00Z"`}},
		{"an object for a list", order(`"sides":{}`), []string{`/sides must be an array, not an object`}},
		{"a list for a map", order(`"prices":[]`), []string{`/prices must be an object, not an array`}},
		{"a wrong element", order(`"sides":["a",2]`), []string{`/sides/1 must be a string, not a number`}},
		{"a wrong entry", order(`"prices":{"a/b~":"x"}`), []string{`/prices/a~1b~0 must be an integer from -2147483648 to 2147483647, not a string`}},
		{"a wrong key", order(`"seats":{"01":"x"}`), []string{`/seats/01 its name must be an integer from -2147483648 to 2147483647`}},
		{"two of a oneof", order(`"card":"x","cash":true`), []string{`/cash cannot be given together with "card"`}},
		{"too deep", order(`"recipe":` + deep), []string{`/recipe`}},
		{"too deep a value", order(`"anything":` + strings.Repeat("[", 100) + strings.Repeat("]", 100)), []string{`/anything`}},
		{"too deep by itself", order(`"anything":` + strings.Repeat("[", 32) + strings.Repeat("]", 32)), []string{`/anything/0/0/0`}},
		{"too many values", order(`"list":[` + strings.Repeat("1,", 10_000) + "1]"), []string{`/list/9994 is where there are too many values`}},
		{"too long a string", order(`"card":"` + strings.Repeat("x", 1<<16) + `"`), []string{`/card is too long`}},
		{"too many members", order(`"extra":{` + members(1001) + "}"), []string{`/extra/k999 has too many members`}},
		{"several at once", order(`"table":"x","spicy":0`), []string{`/table must be an integer from 0 to 4294967295, not a string`, `/spicy must be true or false, not a number`}},

		{"a rule on a string", `{"name":"S","guests":2,"must":{}}`, []string{"/name must be at least 2 characters", "/name does not match regex pattern"}},
		{"a rule on a number", `{"name":"soup","guests":13,"must":{}}`, []string{"/guests must be greater than or equal to 1 and less than or equal to 12"}},
		{"a rule on an element", order(`"sides":["a",""]`), []string{"/sides/1 must be at least 1 character"}},
		{"a rule on a key", order(`"prices":{"":1}`), []string{"/prices/ must be at least 1 character"}},
		{"a rule in CEL", `{"name":"soup","guests":11,"spicy":true,"must":{}}`, []string{" a table of more than 10 cannot have it spicy"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, wrong, err := kitchen.Decode([]byte(tt.arguments))
			if err != nil || m != nil {
				t.Fatalf("Decode = %v, %v", m, err)
			}
			if len(wrong) != len(tt.want) {
				t.Fatalf("Decode tells %v, want %q", wrong, tt.want)
			}
			for i, w := range wrong {
				if got := w.GetPointer() + " " + w.GetMessage(); !strings.HasPrefix(got, tt.want[i]) {
					t.Errorf("violation %d is %q, want %q", i, got, tt.want[i])
				}
			}
		})
	}
}

// The names on the wire of protobuf's own JSON are not the published ones.
func TestDecodeAlias(t *testing.T) {
	t.Parallel()
	get := tooltest.Tools(t, "customers")["get_customer"]
	_, wrong, err := get.Decode([]byte(`{"customerId":7}`))
	if err != nil || len(wrong) != 2 {
		t.Fatalf("Decode tells %v, %v", wrong, err)
	}
	if want := `is not known; the name is "customer_id"`; wrong[0].GetMessage() != want {
		t.Errorf("Decode tells %q, want %q", wrong[0].GetMessage(), want)
	}
}

// A violation never repeats a value: it may be a secret.
func TestDecodeKeepsValues(t *testing.T) {
	t.Parallel()
	const canary = "kx9w2qcanary"
	kitchen := tooltest.Tools(t, "kitchen")["cook_dish"]
	for _, arguments := range []string{
		order(`"table":"` + canary + `"`), order(`"course":"` + canary + `"`), order(`"photo":"` + canary + ` "`),
		order(`"at":"` + canary + `"`), order(`"rest":"` + canary + `"`), order(`"size":"` + canary + `"`),
		order(`"id":"` + canary + `"`), order(`"note":"` + canary + `"`), order(`"code":"` + canary + `"`),
		order(`"sides":["` + canary + `","` + canary + `"]`), order(`"serial":"` + canary + `"`),
		`{"name":"` + strings.ToUpper(canary) + `","guests":2,"must":{}}`,
	} {
		_, wrong, err := kitchen.Decode([]byte(arguments))
		if err != nil || len(wrong) == 0 {
			t.Errorf("%s: Decode tells %v, %v", arguments, wrong, err)
		}
		for _, w := range wrong {
			if strings.Contains(strings.ToLower(w.String()), canary) {
				t.Errorf("%s: a violation repeats the value: %v", arguments, w)
			}
		}
	}
}
