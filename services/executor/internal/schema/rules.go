package schema

import (
	"encoding/base64"
	"encoding/json"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ruleSet is the rules of one value and what they mean for its zero value.
type ruleSet struct {
	rules    *validate.FieldRules
	presence bool // absent and zero are different things
	optional bool // it is a field that can be absent: then zero is a value like others
}

func (r ruleSet) off() bool { return r.rules.GetIgnore() == validate.Ignore_IGNORE_ALWAYS }

// nonZero reports whether the field must be given and, having no presence,
// can only be seen to be given when it is not zero.
func (r ruleSet) nonZero() bool { return !r.off() && r.rules.GetRequired() && !r.presence }

// zeroAllowed reports whether the zero value escapes the other rules.
func (r ruleSet) zeroAllowed() bool {
	return r.rules.GetIgnore() == validate.Ignore_IGNORE_IF_ZERO_VALUE && !r.optional && !r.nonZero()
}

func (r ruleSet) boolean(n *node) {
	if c := r.rules.GetBool(); !r.off() && c.GetConst() && !r.zeroAllowed() || r.nonZero() {
		n.Const = true
	} else if !r.off() && c != nil && c.Const != nil && !c.GetConst() {
		n.Const = false
	}
}

// formats names the string rules that JSON Schema has a format for.
var formats = map[protoreflect.Name]string{
	"email": "email", "hostname": "hostname", "ipv4": "ipv4", "ipv6": "ipv6",
	"uri": "uri", "uri_ref": "uri-reference", "uuid": "uuid",
}

// kindTexts says what the other named string rules mean.
var kindTexts = map[protoreflect.Name]string{
	"ip": "an IP address", "address": "a host name or an IP address", "tuuid": "a UUID without hyphens",
	"ip_with_prefixlen": "an IP address with prefix length", "ipv4_with_prefixlen": "an IPv4 address with prefix length",
	"ipv6_with_prefixlen": "an IPv6 address with prefix length", "ip_prefix": "an IP prefix",
	"ipv4_prefix": "an IPv4 prefix", "ipv6_prefix": "an IPv6 prefix", "host_and_port": "a host and a port",
	"ulid": "a ULID", "well_known_regex": "an HTTP header's name or value",
}

func (r ruleSet) text(n *node) {
	s := r.rules.GetString()
	if s == nil || r.off() {
		if r.nonZero() {
			n.MinLength = atLeast(1, false)
		}
		return
	}
	low, high := s.GetMinLen(), s.MaxLen
	low = max(low, (s.GetMinBytes()+3)/4) // no character has more than 4 bytes
	if s.MaxBytes != nil && (high == nil || s.GetMaxBytes() < *high) {
		high = s.MaxBytes
	}
	if s.LenBytes != nil {
		low, high = max(low, (s.GetLenBytes()+3)/4), s.LenBytes
	}
	if s.Len != nil {
		low, high = s.GetLen(), s.Len
	}
	n.MinLength, n.MaxLength = atLeast(low, r.nonZero()), high
	if s.Pattern != nil {
		if portable(s.GetPattern()) {
			n.also(s.GetPattern())
		} else {
			n.say([]string{"Must match the RE2 pattern " + s.GetPattern() + " ."})
		}
	}
	if s.GetPrefix() != "" {
		n.also("^" + regexp.QuoteMeta(s.GetPrefix()))
	}
	if s.GetContains() != "" {
		n.also(regexp.QuoteMeta(s.GetContains()))
	}
	if s.GetSuffix() != "" {
		n.also(regexp.QuoteMeta(s.GetSuffix()) + "$")
	}
	if s.GetNotContains() != "" {
		n.Not = &node{Pattern: regexp.QuoteMeta(s.GetNotContains())}
	}
	if s.Const != nil {
		n.Const = s.GetConst()
	}
	for _, v := range s.GetIn() {
		n.Enum = append(n.Enum, v)
	}
	if len(s.GetNotIn()) > 0 {
		none := &node{}
		for _, v := range s.GetNotIn() {
			none.Enum = append(none.Enum, v)
		}
		n.AllOf = append(n.AllOf, &node{Not: none})
	}
	m := s.ProtoReflect()
	if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("well_known")); f != nil && (f.Kind() != protoreflect.BoolKind || m.Get(f).Bool()) {
		if format := formats[f.Name()]; format != "" {
			n.Format = format
		} else if said := kindTexts[f.Name()]; said != "" {
			n.say([]string{"Must be " + said + "."})
		}
	}
}

// portable reports whether a pattern means the same to RE2, which enforces it,
// and to ECMA 262, which JSON Schema speaks of.
func portable(pattern string) bool {
	for _, own := range []string{"(?i", "(?m", "(?s", "(?U", "(?P<", `\A`, `\z`, `\Q`, `\C`, `\p`, `\P`, `\a`, `[[:`} {
		if strings.Contains(pattern, own) {
			return false
		}
	}
	return true
}

// bytes bounds the length of base64 text. It is exact only to the block, and
// padding is optional, so it is never stricter than the rule.
func (r ruleSet) bytes(n *node) {
	b := r.rules.GetBytes()
	if r.off() {
		return
	}
	low, high := max(b.GetMinLen(), b.GetLen()), b.GetMaxLen()
	if r.nonZero() {
		low = max(low, 1)
	}
	n.MinLength = atLeast((low*4+2)/3, false)
	if b != nil && (b.MaxLen != nil || b.Len != nil) {
		high = (max(high, b.GetLen()) + 2) / 3 * 4
		n.MaxLength = &high
	}
	n.say(ruleTexts(b.ProtoReflect(), "len", "min_len", "max_len"))
}

// ruleTexts says what rules say that no keyword does, but for those named.
func ruleTexts(rules protoreflect.Message, but ...protoreflect.Name) (texts []string) {
	if rules == nil || !rules.IsValid() {
		return nil
	}
	for i := range rules.Descriptor().Fields().Len() {
		f := rules.Descriptor().Fields().Get(i)
		if !rules.Has(f) || f.Name() == "example" || slices.Contains(but, f.Name()) {
			continue
		}
		var values []string
		if f.IsList() {
			for j := range rules.Get(f).List().Len() {
				values = append(values, ruleValue(f, rules.Get(f).List().Get(j)))
			}
		} else {
			values = append(values, ruleValue(f, rules.Get(f)))
		}
		texts = append(texts, "Rule: "+strings.ReplaceAll(string(f.Name()), "_", " ")+" "+strings.Join(values, ", "))
	}
	return texts
}

// ruleValue writes a value of a rule as it would be in JSON.
func ruleValue(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch f.Kind() {
	case protoreflect.MessageKind:
		raw, err := protojson.Marshal(v.Message().Interface())
		if err != nil { // not a time that can be written
			return "?"
		}
		return strings.Trim(string(raw), `"`)
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	}
	return v.String()
}

// ranges are the bounds of the types themselves.
var ranges = map[protoreflect.Kind][2]json.Number{
	protoreflect.Int32Kind:    {"-2147483648", "2147483647"},
	protoreflect.Sint32Kind:   {"-2147483648", "2147483647"},
	protoreflect.Sfixed32Kind: {"-2147483648", "2147483647"},
	protoreflect.Uint32Kind:   {"0", "4294967295"},
	protoreflect.Fixed32Kind:  {"0", "4294967295"},
	protoreflect.Int64Kind:    {"-9223372036854775808", "9223372036854775807"},
	protoreflect.Sint64Kind:   {"-9223372036854775808", "9223372036854775807"},
	protoreflect.Sfixed64Kind: {"-9223372036854775808", "9223372036854775807"},
	protoreflect.Uint64Kind:   {"0", "18446744073709551615"},
	protoreflect.Fixed64Kind:  {"0", "18446744073709551615"},
	protoreflect.FloatKind:    {"-3.4028234663852886e38", "3.4028234663852886e38"},
}

func (r ruleSet) number(n *node, kind protoreflect.Kind) {
	if bounds, ok := ranges[kind]; ok {
		n.Minimum, n.Maximum = bounds[0], bounds[1]
	}
	if r.nonZero() {
		n.Not = among(zerosOf(kind))
	}
	own := typed(r.rules)
	if own == nil || r.off() {
		return
	}
	get := func(name protoreflect.Name) (json.Number, bool) {
		f := own.Descriptor().Fields().ByName(name)
		if f == nil || f.IsList() || !own.Has(f) {
			return "", false
		}
		return literal(f.Kind(), own.Get(f)), true
	}
	list := func(name protoreflect.Name) (values []any) {
		f := own.Descriptor().Fields().ByName(name)
		if f == nil || !f.IsList() {
			return nil
		}
		for i := range own.Get(f).List().Len() {
			values = append(values, literal(f.Kind(), own.Get(f).List().Get(i)))
		}
		return values
	}
	low, high := &node{}, &node{}
	low.Minimum, _ = get("gte")
	low.ExclusiveMinimum, _ = get("gt")
	high.Maximum, _ = get("lte")
	high.ExclusiveMaximum, _ = get("lt")
	if outside(low, high) {
		n.AnyOf = []*node{low, high}
	} else {
		n.narrow(low, high)
	}
	if c, ok := get("const"); ok {
		n.Const = c
	}
	n.Enum = list("in")
	if none := list("not_in"); none != nil {
		n.AllOf = append(n.AllOf, &node{Not: &node{Enum: none}})
	}
}

// typed returns the rules that are for one type, or nil.
func typed(rules *validate.FieldRules) protoreflect.Message {
	all := rules.ProtoReflect()
	f := all.WhichOneof(all.Descriptor().Oneofs().ByName("type"))
	if f == nil || f.Message() == nil {
		return nil
	}
	return all.Get(f).Message()
}

// narrow lets the bounds of the rules take the place of those of the type.
func (n *node) narrow(low, high *node) {
	if low.Minimum != "" || low.ExclusiveMinimum != "" {
		n.Minimum, n.ExclusiveMinimum = low.Minimum, low.ExclusiveMinimum
	}
	if high.Maximum != "" || high.ExclusiveMaximum != "" {
		n.Maximum, n.ExclusiveMaximum = high.Maximum, high.ExclusiveMaximum
	}
}

// outside reports whether the bounds exclude what is between them, as
// protovalidate reads a lower bound that is above the upper one.
func outside(low, high *node) bool {
	a, ok1 := new(big.Rat).SetString(string(low.Minimum + low.ExclusiveMinimum))
	b, ok2 := new(big.Rat).SetString(string(high.Maximum + high.ExclusiveMaximum))
	return ok1 && ok2 && a.Cmp(b) > 0
}

func literal(kind protoreflect.Kind, v protoreflect.Value) json.Number {
	switch kind {
	case protoreflect.FloatKind:
		return json.Number(strconv.FormatFloat(v.Float(), 'g', -1, 32))
	case protoreflect.DoubleKind:
		return json.Number(strconv.FormatFloat(v.Float(), 'g', -1, 64))
	}
	return json.Number(v.String())
}

// celTexts says what the CEL rules say of themselves.
func celTexts(rules []*validate.Rule) []string {
	var texts []string
	for _, r := range rules {
		if r.GetMessage() != "" {
			texts = append(texts, "Rule: "+r.GetMessage())
		}
	}
	return texts
}
