package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/credential"
)

// Bounds on what is passed on. Those of JSON are the executor's.
const (
	maxSaid  = 1024 // characters of an error's message, or of a header
	maxImage = 256 << 10
	maxDepth = 64
	maxNodes = 100_000
	maxWait  = 24 * time.Hour
)

// answer is what an API has answered.
type answer struct {
	tool  *tool
	resp  *http.Response
	used  *credential.Used
	body  []byte // without secrets
	large bool   // there was more
}

func texts(isError bool, format string, args ...any) *providerv1.ToolResult {
	return &providerv1.ToolResult{
		IsError: isError, Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: fmt.Sprintf(format, args...)}}},
	}
}

// unreadable is the result where the operation was a success and its answer is not
// passed on. It may have done its work, so that it is not for anybody to call again.
func (n *answer) unreadable(why string) *providerv1.ToolResult {
	return texts(true, "The API answered %s, but %s. The operation may have done its work.", n.status(), why)
}

// status is the status in our words, for the server's are a stranger's.
func (n *answer) status() string {
	return strings.TrimSpace(strconv.Itoa(n.resp.StatusCode) + " " + http.StatusText(n.resp.StatusCode))
}

func (n *answer) result() *providerv1.ToolResult {
	media, _, err := mime.ParseMediaType(n.resp.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	switch code := n.resp.StatusCode; {
	case code < 200 || code > 299:
		return n.failure(media)
	case n.resp.Header.Get("Content-Encoding") != "":
		return n.unreadable("compressed, which was not asked for")
	case n.large:
		return n.unreadable(fmt.Sprintf("with more than the %d bytes that are taken: ask it for less", n.tool.by.cfg.MaxResultBytes))
	case n.tool.plan.Method == http.MethodHead || len(n.body) == 0:
		return n.headers()
	case isJSON(media):
		return n.json()
	case len(n.tool.definition.GetOutputSchema()) > 0:
		return n.unreadable("not with the JSON that its document promises")
	case strings.HasPrefix(media, "image/"):
		return n.image(media)
	case isText(media) && utf8.Valid(n.body) && !bytes.ContainsRune(n.body, 0):
		return texts(false, "%s", n.body)
	case isText(media) && media != "":
		return n.unreadable("with text that is not UTF-8")
	}
	return n.unreadable(fmt.Sprintf("with content of the type %q, which is not passed on", truncate(printable(media), 100)))
}

// streams reports whether an answer of success is a stream of events.
func (n *answer) streams() bool {
	media, _, err := mime.ParseMediaType(n.resp.Header.Get("Content-Type"))
	return err == nil && media == "text/event-stream" && n.resp.StatusCode >= 200 && n.resp.StatusCode <= 299
}

func isJSON(m string) bool { return m == "application/json" || strings.HasSuffix(m, "+json") }

// isText reports whether a media type is one of text that has an end.
func isText(m string) bool {
	return m == "" || strings.HasPrefix(m, "text/") && m != "text/event-stream" || strings.HasSuffix(m, "+xml") && m != "image/svg+xml" ||
		slices.Contains([]string{"application/xml", "application/yaml", "application/x-ndjson"}, m)
}

// json passes on JSON as text, and objects as data, too. Numbers keep their digits.
func (n *answer) json() *providerv1.ToolResult {
	if err := bounded(n.body); err != nil {
		return n.unreadable("with JSON that is not passed on: " + err.Error())
	}
	v := jsontext.Value(n.body)
	if err := v.Compact(); err != nil {
		return n.unreadable("with what is not strict JSON")
	}
	out := texts(false, "%s", v)
	switch {
	case v.Kind() == '{':
		out.Structured = v
	case len(n.tool.definition.GetOutputSchema()) > 0:
		return n.unreadable("not with the JSON object that its document promises")
	}
	return out
}

// bounded returns an error unless raw is strict JSON that the executor takes.
func bounded(raw []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	for nodes := 0; ; nodes++ {
		_, err := d.ReadToken()
		switch {
		case errors.Is(err, io.EOF) && nodes > 0 && d.StackDepth() == 0:
			return nil
		case errors.Is(err, jsontext.ErrDuplicateName):
			return errors.New("a name comes twice in an object")
		case err != nil:
			return errors.New("it is not strict JSON")
		case d.StackDepth() > maxDepth:
			return fmt.Errorf("it is nested deeper than %d levels", maxDepth)
		case nodes > maxNodes:
			return fmt.Errorf("it has more than %d parts: ask for less", maxNodes)
		}
	}
}

// image passes on a picture that is what it says it is.
func (n *answer) image(media string) *providerv1.ToolResult {
	known := []string{"image/png", "image/jpeg", "image/gif", "image/webp"}
	switch {
	case !slices.Contains(known, media) || http.DetectContentType(n.body) != media:
		return n.unreadable("with a picture that is not PNG, JPEG, GIF or WebP, or not what it says it is")
	case len(n.body) > maxImage:
		return n.unreadable(fmt.Sprintf("with a picture of more than %d bytes", maxImage))
	}
	return &providerv1.ToolResult{Content: []*providerv1.Content{{
		Kind: &providerv1.Content_Image{Image: &providerv1.Media{Data: n.body, MimeType: media}},
	}}}
}

// headers is the result where there is no body: the status, and the headers that say
// something of what was asked about.
func (n *answer) headers() *providerv1.ToolResult {
	if len(n.tool.definition.GetOutputSchema()) > 0 {
		return n.unreadable("without the JSON that its document promises")
	}
	lines := []string{n.status()}
	for _, name := range []string{"Location", "Content-Type", "Content-Length", "Last-Modified", "ETag"} {
		if v := n.resp.Header.Get(name); v != "" {
			lines = append(lines, name+": "+truncate(printable(string(n.used.Clean([]byte(v)))), maxSaid))
		}
	}
	return texts(false, "%s", strings.Join(lines, "\n"))
}

// failure is the result where the API says that it was none.
func (n *answer) failure(media string) *providerv1.ToolResult {
	var text strings.Builder
	fmt.Fprintf(&text, "The API answered %s", n.status())
	switch code := n.resp.StatusCode; {
	case code >= 300 && code < 400:
		text.WriteString(": it sends elsewhere, which is not followed.")
	case code == http.StatusUnauthorized:
		text.WriteString(": it does not accept the credentials that are configured for it.")
	default:
		if said := n.said(media); said != "" {
			text.WriteString(": " + said)
		} else {
			text.WriteString(".")
		}
	}
	if wait := retryAfter(n.resp.Header.Get("Retry-After")); wait > 0 {
		fmt.Fprintf(&text, "\nIt can be tried again in %d seconds.", int(wait.Seconds()))
	}
	return texts(true, "%s", text.String())
}

// said is what the API says of an error, as far as it is for people.
func (n *answer) said(media string) string {
	switch {
	case n.large, n.resp.Header.Get("Content-Encoding") != "", media == "text/html", !isJSON(media) && !isText(media):
		return ""
	case isJSON(media):
		var o struct {
			Title, Detail, Message, Error, Description json.RawMessage
			ErrorDescription                           json.RawMessage `json:"error_description"`
		}
		if json.Unmarshal(n.body, &o) == nil {
			var parts []string
			for _, raw := range []json.RawMessage{o.Title, o.Detail, o.Message, o.Error, o.ErrorDescription, o.Description} {
				var s string
				var inner struct{ Message string }
				if json.Unmarshal(raw, &s) != nil && json.Unmarshal(raw, &inner) == nil {
					s = inner.Message
				}
				if s != "" && !slices.Contains(parts, s) {
					parts = append(parts, s)
				}
			}
			if len(parts) > 0 {
				return truncate(printable(strings.Join(parts, ": ")), maxSaid)
			}
		}
	}
	return truncate(printable(string(n.body)), maxSaid)
}

// retryAfter reads the header, in seconds or as a date. Nonsense is none.
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxWait)
	}
	when, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(time.Until(when).Round(time.Second), 0), maxWait)
}

// printable returns a text in one line without what is not seen.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.Join(strings.Fields(s), " ")
}

// truncate returns at most so many characters.
func truncate(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
