package edge

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"buf.build/go/protovalidate"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func TestDecodeHeader(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, value, want string
		ok                bool
	}{
		{"plain text is itself", "us-west1", "us-west1", true},
		{"Base64 is decoded", "=?base64?SGVsbG8sIOS4lueVjA==?=", "Hello, 世界", true},
		{"space may be encoded", "=?base64?IHBhZGRlZCA=?=", " padded ", true},
		{"a line break may be encoded", "=?base64?bGluZTEKbGluZTI=?=", "line1\nline2", true},
		{"a value that looks encoded is encoded", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=", "=?base64?literal?=", true},
		{"an empty value may be encoded", "=?base64??=", "", true},
		{"markers are case-sensitive", "=?BASE64?aGk=?=", "=?BASE64?aGk=?=", true},
		{"the start alone is no marker", "=?base64?aGk=", "=?base64?aGk=", true},
		{"start and end do not overlap", "=?base64?=", "=?base64?=", true},
		{"no padding", "=?base64?aGk?=", "", false},
		{"bits left over", "=?base64?aGl=?=", "", false},
		{"the URL alphabet", "=?base64?_-8=?=", "", false},
		{"not UTF-8", "=?base64?/w==?=", "", false},
		{"not ASCII", "caf\xc3\xa9", "", false},
		{"a control character", "a\x00b", "", false},
		{"a delete character", "a\x7fb", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := decodeHeader(tt.value)
			if got != tt.want || ok != tt.ok {
				t.Errorf("decodeHeader(%q): got %q, %v, want %q, %v", tt.value, got, ok, tt.want, tt.ok)
			}
		})
	}
}

// Two values that decode alike are the same value, or one is encoded and the
// other cannot be sent plain or looks encoded; so no value has two encodings.
func FuzzDecodeHeader(f *testing.F) {
	for _, seed := range []string{"echo", "=?base64?ZWNobw==?=", "=?base64?ZWNobx==?=", "=?base64?\r\n?=", "=?base64?=?="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, ok := decodeHeader(value)
		if !ok {
			return
		}
		if !utf8.ValidString(got) {
			t.Fatalf("decodeHeader(%q): got %q, which is not UTF-8", value, got)
		}
		if got != value && sentinelStart+base64.StdEncoding.EncodeToString([]byte(got))+sentinelEnd != value {
			t.Fatalf("decodeHeader(%q): got %q, which is encoded in another way", value, got)
		}
	})
}

func FuzzDecodeCursor(f *testing.F) {
	for _, seed := range []string{"", encodeCursor("echo"), "ZWNobx", "ZWNob\n", "=", strings.Repeat("A", 200)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		after, ok := decodeCursor(cursor, toolName)
		if !ok || cursor == "" {
			return
		}
		if !toolName(after) || encodeCursor(after) != cursor {
			t.Fatalf("decodeCursor(%q): got %q, which encodes to %q", cursor, after, encodeCursor(after))
		}
	})
}

// What we take for a trace the W3C propagator of OpenTelemetry takes for the
// same.
func FuzzParseTraceparent(f *testing.F) {
	for _, seed := range []string{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-06",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseTraceparent(s)
		if !ok {
			return
		}
		ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": s})
		want := trace.SpanContextFromContext(ctx)
		if !want.IsValid() || got.TraceID() != want.TraceID() || got.SpanID() != want.SpanID() || got.IsSampled() != want.IsSampled() {
			t.Fatalf("parseTraceparent(%q): got %v, want %v", s, got, want)
		}
	})
}

func FuzzCredential(f *testing.F) {
	f.Add("Bearer good", "", "", "")
	f.Add("bearer  a.b-c", "a.b-c", "", "x=1")
	f.Add("Basic Zm9v", "", "", "access_token=x")
	f.Add("DPoP a.b-c", "", "e30.e30.c2ln", "")
	f.Add("dpop a.b-c", "a.b-c", "e30.e30.c2ln", "")
	f.Add("Bearer good", "", "e30.e30.c2ln\"", "")
	s := &Service{}
	f.Fuzz(func(t *testing.T, authorization, key, proof, query string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/mcp", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = query
		r.Header["Authorization"] = []string{authorization}
		if key != "" {
			r.Header["X-Api-Key"] = []string{key}
		}
		if proof != "" {
			r.Header["Dpop"] = []string{proof}
		}
		c, problem := s.credentialOf(r, time.Now())
		if (c == nil) == (problem == credentialFine) {
			t.Fatalf("got credential %v and problem %q", c, problem)
		}
		if c == nil {
			return
		}
		name, _, _ := strings.Cut(authorization, " ")
		scheme := authv1.Scheme_SCHEME_BEARER
		if strings.EqualFold(name, "DPoP") {
			scheme = authv1.Scheme_SCHEME_DPOP
		}
		if !tokenChars(c.GetToken()) || !strings.HasSuffix(authorization, c.GetToken()) || key != "" && key != c.GetToken() || c.GetScheme() != scheme {
			t.Fatalf("from %q and %q: got %v", authorization, key, c.GetScheme())
		}
		if proved := scheme == authv1.Scheme_SCHEME_DPOP; proved != (c.GetDpopProof() != "") || proved && (key != "" || c.GetDpopProof() != proof || c.GetHttpMethod() != http.MethodPost) {
			t.Fatalf("from %q and proof %q: got %q for %s", authorization, proof, c.GetDpopProof(), c.GetHttpUri())
		}
		if err := protovalidate.Validate(c); err != nil {
			t.Fatalf("auth would not read it: %v", err)
		}
	})
}
