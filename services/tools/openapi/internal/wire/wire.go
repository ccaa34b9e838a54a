// Package wire makes HTTP requests of arguments, as a plan says that was read from
// an OpenAPI document. Arguments are written by a model and so by whoever it reads:
// a value stays in the place that it is for. It cannot add a segment to a path, a
// header, a parameter that is not its own, or lead to another host.
//
// It neither checks arguments against a schema, which the executor has done, nor
// knows of credentials.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Bounds on a request.
const (
	maxTarget  = 16 << 10 // bytes of path and query
	maxHeaders = 16 << 10 // bytes of the values of headers and cookies
	maxKeys    = 1000     // members or elements of one parameter
)

// Kind is how a body is written.
type Kind string

// The kinds of body.
const (
	JSON Kind = "json" // the bytes of the argument, as they are
	Form Kind = "form" // an object as application/x-www-form-urlencoded
	Text Kind = "text" // a string
	// Multipart is an object as multipart/form-data.
	Multipart Kind = "multipart"
)

// Plan says how arguments become a request. It is plain data, so that it can be
// hashed: a plan is part of what a person approves.
type Plan struct {
	Method     string
	Path       string // a template: "/pets/{petId}"
	Parameters []Parameter
	Body       *Body
	// Slashes lets values in the path have slashes in them, encoded.
	Slashes bool
	// IdempotencyKey says that the API takes one as a header.
	IdempotencyKey bool
}

// Parameter is one argument and where it goes.
type Parameter struct {
	Argument string // its name among the arguments
	Name     string // its name in the request
	In       string // path, query, header or cookie
	Style    string
	Explode  bool
	JSON     bool // written as JSON
	Required bool
}

// Body is the argument that is the body.
type Body struct {
	Argument string
	Kind     Kind
	Type     string // the media type
	Required bool
	Parts    []Part `json:",omitempty"` // of Multipart, those that something is said of
}

// Parts are a request without its host and without credentials.
type Parts struct {
	Path   string // escaped, and begins with a slash
	Query  string // escaped
	Header http.Header
	Body   []byte // nil for none
}

// styles are those of each place.
var styles = map[string][]string{
	"path":   {"simple", "label", "matrix"},
	"query":  {"form", "spaceDelimited", "pipeDelimited", "deepObject"},
	"header": {"simple"},
	"cookie": {"form"},
}

var (
	static   = regexp.MustCompile(`^(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*$`)
	variable = regexp.MustCompile(`\{([^{}]*)\}`)
	token    = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")
)

// Token reports whether a text can be the name of a header or a cookie.
func Token(name string) bool { return token.MatchString(name) }

// Validate reports why requests cannot be made by a plan.
func (p *Plan) Validate() error {
	if !slices.Contains([]string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"}, p.Method) {
		return fmt.Errorf("the method %.16q is not supported", p.Method)
	}
	in := map[string]bool{}
	for _, q := range p.Parameters {
		switch {
		case !slices.Contains(styles[q.In], q.Style):
			return fmt.Errorf("the style %.32q of the parameter %.64q is not supported in %.16q", q.Style, q.Name, q.In)
		case q.In == "header" && !Settable(q.Name), q.In == "cookie" && !Token(q.Name):
			return fmt.Errorf("the %s %.64q cannot be set", q.In, q.Name)
		case q.In == "path":
			in[q.Name] = true
		}
	}
	for _, v := range variable.FindAllStringSubmatch(p.Path, -1) {
		if !in[v[1]] {
			return fmt.Errorf("the path has {%.64s}, which is no parameter", v[1])
		}
	}
	// What is between the variables must need no thought.
	rest := variable.ReplaceAllString(p.Path, "x")
	switch {
	case len(p.Path) > 2048, !strings.HasPrefix(rest, "/"), strings.HasPrefix(rest, "//"), !static.MatchString(rest):
		return errors.New("the path is not a path of a URL from a slash on")
	case climbs(rest):
		return errors.New("the path has a dot segment, which leads to another path")
	}
	return nil
}

// notSettable are headers that decide where a request goes, whose it is or how it
// is read; families are the beginnings of others.
var (
	notSettable = []string{
		"accept", "accept-encoding", "authorization", "connection", "cookie", "cookie2", "date", "expect", "forwarded", "from", "host",
		"http2-settings", "idempotency-key", "keep-alive", "origin", "referer", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade",
		"user-agent", "via", "x-real-ip", "x-original-url", "x-rewrite-url", "x-http-method", "x-http-method-override", "x-method-override",
		"true-client-ip", "cf-connecting-ip", "client-ip", "x-client-ip", "x-cluster-client-ip", "x-original-host", "x-host",
	}
	families = []string{"content-", "proxy-", "sec-", "x-forwarded", "x-envoy-", "x-amzn-", "x-ms-client-principal"}
)

// Settable reports whether an argument may set a header.
func Settable(name string) bool {
	lower := strings.ToLower(name)
	return Token(name) && !strings.Contains(name, "_") && !slices.Contains(notSettable, lower) &&
		!slices.ContainsFunc(families, func(f string) bool { return strings.HasPrefix(lower, f) })
}

// Build makes a request of arguments, a JSON object. taken reports names of query
// parameters that a value must not set, such as those of credentials. The errors
// are for the model: they name arguments and hold no values.
func (p *Plan) Build(arguments []byte, taken func(name string) bool) (*Parts, error) {
	given := map[string]json.RawMessage{}
	if len(arguments) > 0 {
		if err := json.Unmarshal(arguments, &given); err != nil {
			return nil, errors.New("the arguments are not a JSON object")
		}
	}
	w := &writer{plan: p, taken: taken, path: map[string]string{}, header: http.Header{}}
	for _, q := range p.Parameters {
		if err := w.parameter(q, given[q.Argument]); err != nil {
			return nil, fmt.Errorf("%s: %w", q.Argument, err)
		}
	}
	out := &Parts{Query: strings.Join(w.query, "&"), Header: w.header}
	out.Path = variable.ReplaceAllStringFunc(p.Path, func(v string) string { return w.path[v[1:len(v)-1]] })
	if climbs(out.Path) {
		return nil, errors.New("the arguments together make a dot segment of the path, which leads to another path")
	}
	if len(out.Path)+len(out.Query) > maxTarget {
		return nil, fmt.Errorf("the arguments make a URL of more than %d bytes", maxTarget)
	}
	if len(w.cookies) > 0 {
		w.header.Set("Cookie", strings.Join(w.cookies, "; "))
	}
	size := 0
	for _, values := range w.header {
		size += len(values[0])
	}
	if size > maxHeaders {
		return nil, fmt.Errorf("the arguments make headers of more than %d bytes", maxHeaders)
	}
	if p.Body == nil {
		return out, nil
	}
	body, kind, err := p.Body.write(given[p.Body.Argument])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Body.Argument, err)
	}
	if out.Body = body; body != nil {
		w.header.Set("Content-Type", kind)
	}
	return out, nil
}

func absent(raw json.RawMessage) bool {
	return len(raw) == 0 || string(bytes.TrimSpace(raw)) == "null"
}

var errMissing = errors.New("must be given")

// write returns the body and its media type; nil for none.
func (b *Body) write(raw json.RawMessage) ([]byte, string, error) {
	switch {
	case len(raw) == 0 && b.Required:
		return nil, "", errMissing
	case len(raw) == 0:
		return nil, "", nil
	case b.Kind == JSON:
		return raw, b.Type, nil
	case b.Kind == Text:
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return nil, "", errors.New("must be a string")
		}
		return []byte(s), b.Type, nil
	case b.Kind == Multipart:
		return b.multipart(raw)
	}
	v, err := decode(raw)
	if err != nil {
		return nil, "", err
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, "", errors.New("must be an object")
	}
	var pairs []string
	for _, key := range sorted(o) {
		values, isList := o[key].([]any)
		if !isList {
			values = []any{o[key]}
		}
		for _, e := range values {
			s, err := scalar(e)
			if err != nil {
				return nil, "", fmt.Errorf("%.64s: %w", key, err)
			}
			pairs = append(pairs, url.QueryEscape(key)+"="+url.QueryEscape(s))
		}
	}
	return []byte(strings.Join(pairs, "&")), b.Type, nil
}
