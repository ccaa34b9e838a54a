package tool_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// generator writes arguments that are mostly what a message's fields and rules
// want, and now and then something else. It knows nothing of schemas.
type generator struct {
	*rand.Rand
	wild int // one value in so many is something else
}

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string of Go can be written
	return string(b)
}

// message writes an object of some fields.
func (g generator) message(m protoreflect.MessageDescriptor, depth int) string {
	var members []string
	add := func(name, value string) { members = append(members, quoted(name)+":"+value) }
	chosen := make(map[protoreflect.Name]bool) // oneofs
	chance := 8 + 200/(1+m.Fields().Len())
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		must := f.Cardinality() == protoreflect.Required || strings.Contains(string(f.Name()), "must") || m.Name() == "Must" && (f.ContainingOneof() == nil || g.IntN(2) == 0) || f.Name() == "required" || f.Name() == "guests" || m.Name() == "Order" && f.Name() == "name"
		if r := g.IntN(100); depth > 5 || r >= chance && (!must || r > 98) {
			continue
		}
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
			if chosen[o.Name()] && g.IntN(20) > 0 {
				continue
			}
			chosen[o.Name()] = true
		}
		name := string(f.Name())
		if g.IntN(60) == 0 {
			name = f.JSONName()
		}
		add(name, g.field(f, depth))
	}
	if g.IntN(80) == 0 {
		add(pick(g, "", "x/y", "[old.extra]", "number"), `"x"`)
	}
	if len(members) > 0 && g.IntN(80) == 0 {
		members = append(members, members[0])
	}
	g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + strings.Join(members, ",") + "}"
}

func (g generator) field(f protoreflect.FieldDescriptor, depth int) string {
	if g.IntN(g.wild) == 0 {
		return g.anything(0)
	}
	rules, err := protovalidate.ResolveFieldRules(f)
	if err != nil {
		panic(err)
	}
	var parts []string
	switch {
	case f.IsMap():
		for range g.IntN(4) {
			key := pick(g, "", "a", "b", "cc", "1", "-7", "7", "007", "true", "false", "+1", "99999999999", "18446744073709551616")
			if f.MapKey().Kind() == protoreflect.BoolKind && g.IntN(3) > 0 {
				key = pick(g, "true", "false")
			} else if f.MapKey().Kind() != protoreflect.StringKind && g.IntN(3) > 0 {
				key = pick(g, "0", "1", "7", "8")
			}
			parts = append(parts, quoted(key)+":"+g.value(f.MapValue(), constants(rules.GetMap().GetValues().ProtoReflect()), depth+1))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case f.IsList():
		for range g.IntN(4) {
			parts = append(parts, g.value(f, constants(rules.GetRepeated().GetItems().ProtoReflect()), depth+1))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	return g.value(f, constants(rules.ProtoReflect()), depth)
}

// constants are what rules speak of: a value of such a kind is worth a try.
type found struct {
	texts   []string
	numbers []string
	lengths []int
}

func constants(m protoreflect.Message) (c found) {
	if !m.IsValid() {
		return c
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		values := []protoreflect.Value{v}
		if f.IsList() {
			values = nil
			for i := range v.List().Len() {
				values = append(values, v.List().Get(i))
			}
		}
		for _, v := range values {
			switch f.Kind() {
			case protoreflect.MessageKind:
				inner := constants(v.Message())
				c.texts, c.numbers, c.lengths = append(c.texts, inner.texts...), append(c.numbers, inner.numbers...), append(c.lengths, inner.lengths...)
			case protoreflect.StringKind:
				c.texts = append(c.texts, v.String())
			case protoreflect.BytesKind:
				c.texts = append(c.texts, string(v.Bytes()))
			case protoreflect.FloatKind, protoreflect.DoubleKind:
				c.numbers = append(c.numbers, fmt.Sprint(v.Float()))
			case protoreflect.Uint64Kind:
				c.lengths = append(c.lengths, int(min(v.Uint(), 1000)))
				c.numbers = append(c.numbers, fmt.Sprint(v.Uint()), fmt.Sprint(v.Uint()-1), fmt.Sprint(v.Uint()+1))
			case protoreflect.BoolKind, protoreflect.EnumKind:
			default:
				n := v.Interface()
				c.numbers = append(c.numbers, fmt.Sprint(n))
				if v, ok := n.(int64); ok {
					c.numbers = append(c.numbers, fmt.Sprint(v+1), fmt.Sprint(v-1))
				}
				if v, ok := n.(int32); ok {
					c.numbers = append(c.numbers, fmt.Sprint(int64(v)+1), fmt.Sprint(int64(v)-1))
				}
			}
		}
		return true
	})
	return c
}

func (g generator) value(f protoreflect.FieldDescriptor, c found, depth int) string {
	if g.IntN(g.wild) == 0 {
		return g.anything(0)
	}
	switch f.Kind() {
	case protoreflect.BoolKind:
		return pick(g, "true", "false")
	case protoreflect.StringKind:
		return quoted(g.text(c))
	case protoreflect.BytesKind:
		return quoted(g.bytes(c))
	case protoreflect.EnumKind:
		v := f.Enum().Values()
		if g.IntN(12) == 0 {
			return pick(g, `"X"`, `"1"`, "1", "0", "99", `""`)
		}
		return quoted(string(v.Get(g.IntN(v.Len())).Name()))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return g.nested(f.Message(), c, depth)
	}
	return g.number(f.Kind(), c)
}

func (g generator) nested(m protoreflect.MessageDescriptor, c found, depth int) string {
	if m.FullName().Parent() != "google.protobuf" {
		return g.message(m, depth+1)
	}
	switch m.Name() {
	case "Timestamp":
		return quoted(pick(g, "1970-01-01T00:00:00Z", "1970-01-01T00:16:40Z", "1970-01-01T00:16:39.999999999Z", "1970-01-01t00:00:01z", "2026-01-02T03:04:05+02:00",
			"2026-01-02T03:04:05.1234567891Z", "2026-02-30T00:00:00Z", "2026-01-02 03:04:05Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
			"9999-12-31T23:59:59.999999999Z", "10000-01-01T00:00:00Z", "2016-12-31T23:59:60Z", "1970-01-01T00:00:00", "1970-01-01", "", "0", "1970-01-01T00:00:00,5Z"))
	case "Duration":
		return quoted(pick(g, "1s", "1.5s", "1.500000000s", "0s", "-0s", "-1s", "60s", "60.000000001s", "315576000000s", "315576000001s", "1.0000000001s", "+1s", ".5s", "1.s", "1",
			"1e1s", "s", "", "-", "-.5s", "01s", " 1s", "1S", "0.1s"))
	case "FieldMask":
		return quoted(pick(g, "", "a", "b", "a,b", "aB", "a.b", "a_b", "a,,b", "a, b", "A", "a.bC,d", "foo.bar", ","))
	case "Empty":
		return pick(g, "{}", "{}", `{"a":1}`)
	case "Struct":
		return g.container("{", "}", func() string { return quoted(pick(g, "", "a", "b")+fmt.Sprint(g.IntN(50))) + ":" })
	case "ListValue":
		return g.container("[", "]", func() string { return "" })
	case "Value":
		return g.anything(0)
	}
	if g.IntN(10) == 0 {
		return "null"
	}
	return g.value(m.Fields().ByNumber(1), c, depth)
}

func (g generator) container(open, end string, name func() string) string {
	var parts []string
	for range g.IntN(3) {
		parts = append(parts, name()+g.anything(0))
	}
	return open + strings.Join(parts, ",") + end
}

// texts are one good and some bad of each format.
var texts = []string{
	"a", "b", "abc", "ABC", "ab", "", "é", "éa", "ammz", "ammmz", "a.bc", "axb", "x$c", "(x", "+", "日本語", "😀", "hello", "soup", "k-ab", "k--a", "abc1", "abc12",
	"me@example.com", "me@", "example.com", "-example.com", "example.com.", "127.0.0.1", "127.0.0.1/8", "127.0.0.0/8", "256.0.0.1", "::1", "fe80::1%eth0", "2001:db8::/32", "2001:db8::1/32",
	"https://example.com/a?b#c", "/a b", "a%zz", "example.com:80", "[::1]:80", "9b2d7f3e-1111-4222-8333-444455556666", "9B2D7F3E111142228333444455556666", "01ARZ3NDEKTSV4RRFFQ69G5FAV",
	":authority", "x-header", "a\nb", "a\x00b", "xn--bcher-kva.example", "1", "-1", "true", "COURSE_MAIN",
}

func (g generator) text(c found) string {
	switch {
	case len(c.texts) > 0 && g.IntN(3) > 0:
		s := pick(g, c.texts...)
		if len(c.texts) > 2 && g.IntN(2) == 0 {
			s = c.texts[0] + s + pick(g, c.texts...)
		}
		return pick(g, s, s, s, s+"x", "x"+s, strings.ToUpper(s))
	case len(c.lengths) > 0 && g.IntN(3) > 0:
		return strings.Repeat(pick(g, "a", "é", "😀"), max(0, pick(g, c.lengths...)+g.IntN(3)-1))
	}
	return pick(g, texts...)
}

func (g generator) bytes(c found) string {
	var raw []byte
	switch {
	case len(c.texts) > 0 && g.IntN(3) > 0:
		raw = []byte(pick(g, "", "x") + pick(g, c.texts...) + pick(g, "", "", "x"))
	case len(c.lengths) > 0 && g.IntN(3) > 0:
		raw = make([]byte, max(0, pick(g, c.lengths...)+g.IntN(3)-1))
	default:
		raw = make([]byte, pick(g, 0, 1, 2, 3, 4, 16))
		for i := range raw {
			raw[i] = byte(g.Uint32())
		}
	}
	if g.IntN(12) == 0 {
		return pick(g, "*", "AQ=", "AQ===", "A", "AR", "AQ==AQ==", "A Q=", "AQ\n==", "/-8=", "=", "====", "_-8")
	}
	return pick(g, base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding).EncodeToString(raw)
}

func (g generator) number(kind protoreflect.Kind, c found) string {
	n := pick(g, "0", "1", "2", "3", "5", "7", "10", "-1", "-4", "-6")
	switch {
	case len(c.numbers) > 0 && g.IntN(4) > 0:
		n = pick(g, c.numbers...)
	case g.IntN(3) == 0:
		n = pick(g, "1.5", "1.0", "0.25", "0.1", "1e1", "1E+2", "10e-1", "15e-1", "-0", "-0.0", "0e5", "1e39", "1e300", "1e999", "4294967295", "4294967296", "-2147483649",
			"9007199254740993", "9223372036854775808", "18446744073709551615", "18446744073709551616", "0.30000001192092896", "123456789012345678901234567890123", "16777217")
	}
	if g.IntN(8) == 0 || strings.Contains(kind.String(), "64") && g.IntN(3) == 0 {
		n = quoted(pick(g, n, n, n, n, n, n+".0", "+"+n, " "+n, n+"e0", "NaN", "Infinity", "-Infinity"))
	}
	return n
}

func (g generator) anything(depth int) string {
	switch n := g.IntN(10); {
	case n == 0:
		return "null"
	case n == 1:
		return "true"
	case n == 2 && depth < 3:
		return "[" + g.anything(depth+1) + "]"
	case n == 3 && depth < 3:
		return "{" + quoted(pick(g, "text", "n", "x")) + ":" + g.anything(depth+1) + "}"
	case n < 6:
		return quoted(pick(g, "", "x", "1", "COURSE_MAIN", "NaN"))
	case n == 6:
		return pick(g, "[]", "{}", "[null]")
	}
	return pick(g, "0", "1", "-1", "1.5", "1e400")
}
