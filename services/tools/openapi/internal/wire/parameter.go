package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// writer collects what parameters make of a request.
type writer struct {
	plan    *Plan
	taken   func(name string) bool
	path    map[string]string // escaped, by name
	query   []string
	header  http.Header
	cookies []string
}

// value is a parameter's value: one text, a list of them, or members by name.
type value struct {
	one    string
	list   []string
	names  []string // sorted
	member map[string]string
}

var (
	errNested  = errors.New("has lists or objects within, which have no form in a URL or a header")
	errTooMany = fmt.Errorf("has more than %d parts", maxKeys)
)

func (w *writer) parameter(p Parameter, raw json.RawMessage) error {
	if absent(raw) {
		if p.Required {
			return errMissing
		}
		return nil
	}
	v, err := read(p, raw)
	if err != nil {
		return err
	}
	switch p.In {
	case "path":
		for _, part := range v.parts() {
			if err := w.segment(part); err != nil {
				return err
			}
		}
		s := inPath(p, v)
		if s == "" {
			return errors.New("must not be empty")
		}
		w.path[p.Name] = s
		return nil
	case "query":
		return w.inQuery(p, v)
	case "header":
		s, err := inHeader(p, v)
		if err != nil {
			return err
		}
		w.header.Set(p.Name, s)
		return nil
	}
	if v.list != nil || v.member != nil {
		return errors.New("must be a single value, as it is a cookie")
	}
	w.cookies = append(w.cookies, p.Name+"="+escape(v.one))
	return nil
}

func read(p Parameter, raw json.RawMessage) (value, error) {
	if p.JSON {
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return value{}, errors.New("is not JSON")
		}
		return value{one: b.String()}, nil
	}
	d, err := decode(raw)
	if err != nil {
		return value{}, err
	}
	switch d := d.(type) {
	case []any:
		v := value{list: []string{}}
		if len(d) > maxKeys {
			return v, errTooMany
		}
		for _, e := range d {
			s, err := scalar(e)
			if err != nil {
				return v, err
			}
			v.list = append(v.list, s)
		}
		return v, nil
	case map[string]any:
		v := value{member: map[string]string{}, names: sorted(d)}
		if len(d) > maxKeys {
			return v, errTooMany
		}
		for _, name := range v.names {
			if v.member[name], err = scalar(d[name]); err != nil {
				return v, err
			}
		}
		return v, nil
	}
	one, err := scalar(d)
	return value{one: one}, err
}

func decode(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // digits stay as they are
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("is not JSON")
	}
	return v, nil
}

func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		if v {
			return "true", nil
		}
		return "false", nil
	case nil:
		return "", errors.New("has null within, which has no form in a URL or a header")
	}
	return "", errNested
}

func sorted(o map[string]any) []string { return slices.Sorted(maps.Keys(o)) }

// parts are all texts of a value that go into a request.
func (v value) parts() []string {
	if v.list == nil && v.member == nil {
		return []string{v.one}
	}
	parts := slices.Clone(v.list)
	for _, name := range v.names {
		parts = append(parts, name, v.member[name])
	}
	return parts
}

// flat returns the members as a list of names and values.
func (v value) flat() []string {
	if v.member == nil {
		return v.list
	}
	return v.parts()
}

// pairs returns the members, each written by form.
func (v value) pairs(form func(name, value string) string) []string {
	out := make([]string, 0, len(v.names))
	for _, name := range v.names {
		out = append(out, form(escape(name), escape(v.member[name])))
	}
	return out
}

func equals(name, value string) string { return name + "=" + value }

// escape leaves nothing as it is but letters, digits and -._~.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func escapeAll(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = escape(s)
	}
	return out
}

func inPath(p Parameter, v value) string {
	single := v.list == nil && v.member == nil
	switch p.Style {
	case "label":
		switch {
		case single:
			return "." + escape(v.one)
		case !p.Explode:
			return "." + strings.Join(escapeAll(v.flat()), ",")
		case v.member != nil:
			return "." + strings.Join(v.pairs(equals), ".")
		}
		return "." + strings.Join(escapeAll(v.list), ".")
	case "matrix":
		name := escape(p.Name)
		switch {
		case single:
			return ";" + name + "=" + escape(v.one)
		case !p.Explode:
			return ";" + name + "=" + strings.Join(escapeAll(v.flat()), ",")
		case v.member != nil:
			return ";" + strings.Join(v.pairs(equals), ";")
		}
		return ";" + name + "=" + strings.Join(escapeAll(v.list), ";"+name+"=")
	}
	switch {
	case single:
		return escape(v.one)
	case p.Explode && v.member != nil:
		return strings.Join(v.pairs(equals), ",")
	}
	return strings.Join(escapeAll(v.flat()), ",")
}

func (w *writer) inQuery(p Parameter, v value) error {
	name := escape(p.Name)
	switch {
	case p.Style == "deepObject":
		if v.member == nil {
			return errors.New("must be an object")
		}
		w.query = append(w.query, v.pairs(func(key, value string) string { return name + "%5B" + key + "%5D=" + value })...)
	case v.list == nil && v.member == nil:
		w.query = append(w.query, name+"="+escape(v.one))
	case p.Explode && v.member != nil:
		// Here a value names parameters.
		for _, key := range v.names {
			if w.taken(key) || slices.ContainsFunc(w.plan.Parameters, func(q Parameter) bool { return q.In == "query" && strings.EqualFold(q.Name, key) }) {
				return errors.New("has a member that is called as another parameter")
			}
		}
		w.query = append(w.query, v.pairs(equals)...)
	case p.Explode:
		for _, e := range escapeAll(v.list) {
			w.query = append(w.query, name+"="+e)
		}
	case len(v.flat()) > 0:
		separator := map[string]string{"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}[p.Style]
		w.query = append(w.query, name+"="+strings.Join(escapeAll(v.flat()), separator))
	}
	return nil
}

// inHeader writes a value as it is: headers know no escapes.
func inHeader(p Parameter, v value) (string, error) {
	for _, part := range v.parts() {
		if strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r > '~' }) {
			return "", errors.New("has characters that a header cannot have: it takes printable ASCII")
		}
	}
	if v.list == nil && v.member == nil {
		return strings.TrimSpace(v.one), nil
	}
	for _, part := range v.parts() {
		if strings.ContainsAny(part, ",=") {
			return "", errors.New("has a comma or an equals sign within, where the parts of a header are told apart by them")
		}
	}
	if v.member != nil && p.Explode {
		out := make([]string, 0, len(v.names))
		for _, name := range v.names {
			out = append(out, equals(name, v.member[name]))
		}
		return strings.Join(out, ","), nil
	}
	return strings.Join(v.flat(), ","), nil
}

var (
	errSlash   = errors.New("has a slash or a backslash, which would lead to another path")
	errClimbs  = errors.New("is a segment . or .., which would lead to another path")
	errControl = errors.New("has control characters")
	escapes    = regexp.MustCompile("%[0-9A-Fa-f]{2}")
)

// segment checks a text that goes into a path. There are servers, and proxies
// before them, that decode once too often; so what the text would become then is
// looked at, too.
func (w *writer) segment(text string) error {
	if text == "" {
		return errors.New("must not be empty, nor have an empty part")
	}
	for range 4 {
		switch {
		case strings.ContainsFunc(text, unicode.IsControl):
			return errControl
		case !w.plan.Slashes && strings.ContainsAny(text, `/\`):
			return errSlash
		case climbs(text):
			return errClimbs
		}
		next := unescape(text)
		if next == text {
			return nil
		}
		text = next
	}
	return errors.New("is encoded too often")
}

// unescape decodes what is encoded and leaves the rest.
func unescape(s string) string {
	return escapes.ReplaceAllStringFunc(s, func(e string) string {
		d, err := url.PathUnescape(e)
		if err != nil {
			return e
		}
		return d
	})
}

// climbs reports whether a path, as it is or decoded, has a segment that leads
// elsewhere. Some servers leave out what follows a semicolon.
func climbs(path string) bool {
	for range 4 {
		for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
			segment, _, _ = strings.Cut(segment, ";")
			if s := strings.TrimSpace(segment); s == "." || s == ".." {
				return true
			}
		}
		path = unescape(path)
	}
	return false
}
