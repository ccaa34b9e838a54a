package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// maxJSONDepth is how deep JSON may be nested to be set out on lines.
const maxJSONDepth = 64

// part of a definition as people read it: lines, all of which end.
type part struct{ name, text string }

// parts sets a definition out for people. Two that differ in what a model is
// told differ here too; nothing in the text can hide or act on a terminal.
func parts(d *providerv1.ToolDefinition) []part {
	return []part{
		{"title and options", head(d)},
		{"description", body(d.GetDescription())},
		{"input schema", body(pretty(d.GetInputSchema()))},
		{"output schema", body(pretty(d.GetOutputSchema()))},
		{"meta", body(pretty(d.GetMeta()))},
		{"icons", icons(d.GetIcons())},
	}
}

// head is what fits on lines of their own: names, and what the options say.
func head(d *providerv1.ToolDefinition) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\n", visible(d.GetName(), false))
	if d.GetTitle() != "" {
		fmt.Fprintf(&b, "title: %s\n", visible(d.GetTitle(), false))
	}
	// Every option there is, also those of a later version.
	m := d.GetOptions().ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		switch {
		case m.Has(f):
			fmt.Fprintf(&b, "option %s: %s\n", f.Name(), visible(option(f, m.Get(f)), false))
		case f.Name() == "risk":
			fmt.Fprintf(&b, "option risk: not said, counts as destructive\n")
		}
	}
	return b.String()
}

func option(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if f.IsList() {
		all := make([]string, v.List().Len())
		for i := range all {
			if e := v.List().Get(i); f.Message() != nil {
				all[i] = members(e.Message())
			} else {
				all[i] = fmt.Sprintf("%q", e.String())
			}
		}
		return strings.Join(all, ", ")
	}
	switch f.Kind() {
	case protoreflect.EnumKind:
		if value := f.Enum().Values().ByNumber(v.Enum()); value != nil {
			_, word, _ := strings.Cut(string(value.Name()), "_")
			return strings.ToLower(word)
		}
	case protoreflect.MessageKind:
		if d, ok := v.Message().Interface().(*durationpb.Duration); ok {
			return d.AsDuration().String()
		}
	}
	return v.String()
}

// members are the fields of a message that are set, in their order.
func members(m protoreflect.Message) string {
	var all []string
	for i := range m.Descriptor().Fields().Len() {
		if f := m.Descriptor().Fields().Get(i); m.Has(f) {
			all = append(all, fmt.Sprintf("%s %s", f.Name(), option(f, m.Get(f))))
		}
	}
	return strings.Join(all, " ")
}

func icons(all []*providerv1.Icon) string {
	var b strings.Builder
	for _, i := range all {
		fmt.Fprintf(&b, "%s\n", visible(fmt.Sprintf("%q type %q sizes %q theme %q", i.GetSrc(), i.GetMimeType(), i.GetSizes(), i.GetTheme()), false))
	}
	return b.String()
}

// body is a text of many lines, or of none.
func body(s string) string {
	if s == "" {
		return ""
	}
	return visible(s, true) + "\n"
}

// pretty sets JSON out on lines, with keys in order. What is no good JSON, or
// says something twice, is returned as it is: nothing of it may get lost.
func pretty(raw []byte) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := value(d, 0)
	if _, end := d.Token(); err != nil || !errors.Is(end, io.EOF) || !utf8.Valid(raw) {
		return string(raw)
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return string(raw)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// value reads one value. The standard library would take the last of two equal
// keys, where whoever reads the original may take the first.
func value(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	delim, ok := t.(json.Delim)
	if err != nil || !ok {
		return t, err
	}
	if depth == maxJSONDepth {
		return nil, errors.New("too deep")
	}
	if delim == '[' {
		list := []any{}
		for d.More() {
			v, err := value(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.Token()
		return list, err
	}
	object := make(map[string]any)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if _, twice := object[key]; !ok || twice {
			return nil, errors.New("no key, or one that was there before")
		}
		if object[key], err = value(d, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = d.Token()
	return object, err
}

// visible writes what cannot be seen, or what would act on a terminal, as its
// number: <U+202E>. Different texts stay different.
func visible(s string, lines bool) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1: // a byte that is no text
			fmt.Fprintf(&b, "<0x%02X>", s[0])
		case lines && (r == '\n' || r == '\t'):
			b.WriteRune(r)
		case hidden(r), strings.HasPrefix(s, "<U+"), strings.HasPrefix(s, "<0x"):
			fmt.Fprintf(&b, "<U+%04X>", r)
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

// hidden reports whether a character leaves no mark of its own: controls, what
// turns the direction of text, blanks that are not the usual one, and the many
// that Unicode says to ignore. Texts for models are hidden in these.
func hidden(r rune) bool {
	const brailleBlank = '\u2800'
	return !unicode.IsGraphic(r) || unicode.IsSpace(r) && r != ' ' || r == brailleBlank ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// concealed counts the hidden characters in what a model is told by a
// definition.
func concealed(d *providerv1.ToolDefinition) int {
	n := 0
	// The JSON as it is set out, where it is no matter how it is escaped.
	for _, s := range []string{d.GetTitle(), d.GetDescription(), pretty(d.GetInputSchema()), pretty(d.GetOutputSchema()), pretty(d.GetMeta())} {
		for _, r := range s {
			if r != '\n' && r != '\t' && hidden(r) {
				n++
			}
		}
	}
	return n
}

// changes tells what approving a definition would change: the whole of it where
// nothing was approved, else a unified diff of each part that differs.
func changes(d *executorv1.Definition) string {
	var b strings.Builder
	if old := d.GetApproved().GetDefinition(); old != nil {
		b.WriteString(compare("approved", old, "offered", d.GetOffered()))
		if b.Len() == 0 && !bytes.Equal(d.GetApproved().GetDigest(), d.GetDigest()) {
			b.WriteString(onlyWritten)
		}
	} else {
		for _, s := range parts(d.GetOffered()) {
			if s.text != "" {
				fmt.Fprintf(&b, "%s:\n", s.name)
				for line := range strings.Lines(s.text) {
					b.WriteString("  " + line)
				}
			}
		}
	}
	if n := concealed(d.GetOffered()); n > 0 {
		fmt.Fprintf(&b, "! Characters in what is offered that cannot be seen, or are not what they seem: %d. They are shown as <U+…>.\n", n)
	}
	return b.String()
}

const onlyWritten = "! They differ only in how their JSON is written: order, blanks, escapes.\n"

// compare is a unified diff of each part in which two definitions differ, empty if
// they look alike.
func compare(oldName string, old *providerv1.ToolDefinition, newName string, now *providerv1.ToolDefinition) string {
	var b strings.Builder
	is := parts(now)
	for i, was := range parts(old) {
		text := diff.Diff(oldName+" "+was.name, []byte(was.text), newName+" "+was.name, []byte(is[i].text))
		_, text, _ = bytes.Cut(text, []byte("\n")) // the line that says "diff"
		b.Write(text)
	}
	return b.String()
}

// lastChange tells how a tool that is as it was approved has come to be so: what it
// was before, and whether somebody has approved the change or it has passed by
// itself. It is empty for a tool that waits, or of which nothing is known.
func lastChange(d *executorv1.Definition) string {
	a := d.GetApproved()
	if a == nil || !bytes.Equal(a.GetDigest(), d.GetDigest()) {
		return ""
	}
	was := a.GetReplaced()
	if was == nil {
		return "It has not changed since.\n"
	}
	how := "was approved by " + printable(a.GetBy())
	if !held(a) {
		how = "was not held, for it takes away nothing that restricts the tool (hold mode loosened)"
	}
	text := fmt.Sprintf("Its last change, %s, %s. Before it was as approved %s by %s.\n", stamp(a.GetTime()), how, stamp(was.GetTime()), printable(was.GetBy()))
	if was.GetDefinition() == nil {
		return text + "! What it was before is too large and was not kept.\n"
	}
	if n := concealed(was.GetDefinition()); n > 0 {
		text += fmt.Sprintf("! Characters in what it was that cannot be seen, or are not what they seem: %d. They are shown as <U+…>.\n", n)
	}
	return text + cmp.Or(compare("earlier", was.GetDefinition(), "present", d.GetOffered()), onlyWritten)
}

// held reports whether a definition had to wait until somebody approved it.
func held(a *executorv1.Approval) bool { return strings.HasPrefix(a.GetBy(), "operator ") }

// coloured marks the lines of a diff for a terminal.
func coloured(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		colour := ""
		switch {
		case strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "+++ "):
			colour = "\x1b[1m"
		case strings.HasPrefix(line, "-"):
			colour = "\x1b[31m"
		case strings.HasPrefix(line, "+"):
			colour = "\x1b[32m"
		case strings.HasPrefix(line, "@@"):
			colour = "\x1b[36m"
		case strings.HasPrefix(line, "! "):
			colour = "\x1b[33m"
		}
		if colour != "" {
			line = colour + line + "\x1b[0m"
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}
