package openapi_test

import (
	"bytes"
	"compress/gzip"
	"image"
	"image/png"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

func picture(t *testing.T, side int) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, side, side))
	for i := range m.Pix {
		m.Pix[i] = byte(i * i * 31 >> 3) // what does not pack well
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestResults(t *testing.T) {
	t.Parallel()
	const done = " The operation may have done its work."
	small, large := picture(t, 4), picture(t, 300)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(bytes.Repeat([]byte("x"), 1<<20))
	_ = z.Close()
	words := func(isError bool, s string) *providerv1.ToolResult {
		return &providerv1.ToolResult{IsError: isError, Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: s}}}}
	}
	data := func(s string) *providerv1.ToolResult {
		r := words(false, s)
		r.Structured = []byte(s)
		return r
	}
	tests := []struct {
		name   string
		code   int
		header []string // name, value, …
		body   string
		want   *providerv1.ToolResult
	}{
		{"an object", 200, []string{"Content-Type", "application/json"}, ` {"b": 12345678901234567890, "a": "<"} `, data(`{"b":12345678901234567890,"a":"<"}`)},
		{"an object of another type", 200, []string{"Content-Type", "application/hal+json; charset=utf-8"}, `{}`, data(`{}`)},
		{"a list", 200, []string{"Content-Type", "application/json"}, `[1, 2]`, words(false, `[1,2]`)},
		{"text", 200, []string{"Content-Type", "text/plain"}, "a\nü", words(false, "a\nü")},
		{"XML", 200, []string{"Content-Type", "application/xml"}, "<a/>", words(false, "<a/>")},
		{"no body", 204, nil, "", words(false, "204 No Content")},
		{"no body, but where to look", 201, []string{"Location", "/books/7", "ETag", `"x"`}, "", words(false, "201 Created\nLocation: /books/7\nContent-Length: 0\nETag: \"x\"")},
		{"a picture", 200, []string{"Content-Type", "image/png"}, string(small), &providerv1.ToolResult{Content: []*providerv1.Content{{
			Kind: &providerv1.Content_Image{Image: &providerv1.Media{Data: small, MimeType: "image/png"}},
		}}}},

		{"a picture that is too large", 200, []string{"Content-Type", "image/png"}, string(large), words(true, "The API answered 200 OK, but with a picture of more than 262144 bytes."+done)},
		{"a picture that is none", 200, []string{"Content-Type", "image/png"}, "<script>", words(true, "The API answered 200 OK, but with a picture that is not PNG, JPEG, GIF or WebP, or not what it says it is."+done)},
		{"a picture with scripts", 200, []string{"Content-Type", "image/svg+xml"}, "<svg/>", words(true, "The API answered 200 OK, but with a picture that is not PNG, JPEG, GIF or WebP, or not what it says it is."+done)},
		{"a file", 200, []string{"Content-Type", "application/pdf"}, "%PDF", words(true, `The API answered 200 OK, but with content of the type "application/pdf", which is not passed on.`+done)},
		{"a stream", 200, []string{"Content-Type", "text/event-stream"}, "data: x", words(true, `The API answered 200 OK, but with a stream of events, which is not passed on: ask it for an answer that has an end, if it has one.`+done)},
		{"text that is none", 200, []string{"Content-Type", "text/plain"}, "a\x00b", words(true, "The API answered 200 OK, but with text that is not UTF-8."+done)},
		{"JSON that is none", 200, []string{"Content-Type", "application/json"}, "{", words(true, "The API answered 200 OK, but with JSON that is not passed on: it is not strict JSON."+done)},
		{"JSON and more", 200, []string{"Content-Type", "application/json"}, "{}{}", words(true, "The API answered 200 OK, but with what is not strict JSON."+done)},
		{"a name twice", 200, []string{"Content-Type", "application/json"}, `{"a":1,"a":2}`, words(true, "The API answered 200 OK, but with JSON that is not passed on: a name comes twice in an object."+done)},
		{"JSON that is too deep", 200, []string{"Content-Type", "application/json"}, strings.Repeat("[", 65) + strings.Repeat("]", 65), words(true, "The API answered 200 OK, but with JSON that is not passed on: it is nested deeper than 64 levels."+done)},
		{"JSON of too many parts", 200, []string{"Content-Type", "application/json"}, "[0" + strings.Repeat(",0", 100_000) + "]", words(true, "The API answered 200 OK, but with JSON that is not passed on: it has more than 100000 parts: ask for less."+done)},
		{"too much", 200, []string{"Content-Type", "text/plain"}, strings.Repeat("x", 512<<10+1), words(true, "The API answered 200 OK, but with more than the 524288 bytes that are taken: ask it for less."+done)},
		{"what unpacks to much", 200, []string{"Content-Type", "text/plain", "Content-Encoding", "gzip"}, packed.String(), words(true, "The API answered 200 OK, but compressed, which was not asked for."+done)},

		{"an error", 404, []string{"Content-Type", "application/problem+json"}, `{"title":"Not Found","detail":"No book 7."}`, words(true, "The API answered 404 Not Found: Not Found: No book 7.")},
		{"an error in another form", 422, []string{"Content-Type", "application/json"}, `{"error":{"message":"title\nis \u001b[31mmissing\u202e"}}`, words(true, "The API answered 422 Unprocessable Entity: title is [31mmissing")},
		{"an error in text", 400, []string{"Content-Type", "text/plain"}, strings.Repeat("ü", 2000), words(true, "The API answered 400 Bad Request: "+strings.Repeat("ü", 1024)+"…")},
		{"an error as a page", 500, []string{"Content-Type", "text/html"}, "<h1>at com.example.Db(10.0.0.1)", words(true, "The API answered 500 Internal Server Error.")},
		{"an error without end", 500, []string{"Content-Type", "text/plain"}, strings.Repeat("x", 1<<20), words(true, "The API answered 500 Internal Server Error.")},
		{"too many requests", 429, []string{"Retry-After", "17"}, "", words(true, "The API answered 429 Too Many Requests.\nIt can be tried again in 17 seconds.")},
		{"too many requests until next year", 429, []string{"Retry-After", "99999999"}, "", words(true, "The API answered 429 Too Many Requests.\nIt can be tried again in 86400 seconds.")},
		{"nonsense about when", 503, []string{"Retry-After", "-5 or so"}, "", words(true, "The API answered 503 Service Unavailable.")},
		{"a date that has passed", 503, []string{"Retry-After", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}, "", words(true, "The API answered 503 Service Unavailable.")},
		{"our credentials", 401, []string{"Content-Type", "text/plain"}, "the key sk-123 is bad", words(true, "The API answered 401 Unauthorized: it does not accept the credentials that are configured for it.")},
		{"elsewhere", 302, []string{"Location", "https://evil.example/"}, "", words(true, "The API answered 302 Found: it sends elsewhere, which is not followed.")},
		{"a status that nobody knows", 299, []string{"Content-Type", "text/plain"}, "x", words(false, "x")},
	}
	w := newWorld(t, nil)
	c := w.up(w.api(smallest))
	for _, tt := range tests {
		w.serve(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header()["Content-Type"] = nil // no guesses
			for i := 0; i < len(tt.header); i += 2 {
				rw.Header().Set(tt.header[i], tt.header[i+1])
			}
			rw.WriteHeader(tt.code)
			_, _ = io.WriteString(rw, tt.body)
		})
		got, err := call(t, c, "shop_get_x", `{}`)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

var smallest = small("")

func TestPromisesAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := w.api(shop(t))
	c := w.up(a)
	for _, answer := range []struct{ media, body string }{{"application/json", `[]`}, {"text/plain", "x"}, {"application/json", ""}} {
		w.serve(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", answer.media)
			_, _ = io.WriteString(rw, answer.body)
		})
		got, err := call(t, c, "shop_get_book", `{"bookId":"1"}`)
		if err != nil || !got.GetIsError() || !strings.Contains(text(got), "promises") {
			t.Errorf("%v: got %v, %v", answer, got, err)
		}
	}
}

func TestHeadTellsHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			t.Errorf("got %s", r.Method)
		}
		rw.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
	})
	got, err := call(t, w.up(w.api(shop(t))), "shop_book_exists", `{"bookId":"1"}`)
	if err != nil || got.GetIsError() || !strings.Contains(text(got), "200 OK\nLast-Modified: Mon, 02 Jan 2006") {
		t.Errorf("got %v, %v", got, err)
	}
}

// A stream may have no end: it is refused when it begins.
func TestStreamsAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = io.WriteString(rw, "data: x\n\n")
		if err := http.NewResponseController(rw).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	})
	a := w.api(smallest)
	a.Timeout = time.Hour
	got, err := call(t, w.up(a), "shop_get_x", `{}`)
	if err != nil || !got.GetIsError() || !strings.Contains(text(got), "stream of events") {
		t.Errorf("got %v, %v", got, err)
	}
}
