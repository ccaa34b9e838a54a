package openapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/credential"
)

// canary is in every secret of these tests.
const canary = `k4n4ry+"/x`

// echo is an API that answers, as JSON and otherwise, with all that it was sent, and
// does so in an error, too.
func echo(w http.ResponseWriter, r *http.Request) {
	whole := map[string]any{"url": r.URL.String(), "query": r.URL.Query(), "header": r.Header, "message": r.Header.Get("Authorization") + r.Header.Get("X-Key") + r.URL.RawQuery}
	if user, password, ok := r.BasicAuth(); ok {
		whole["user"], whole["password"] = user, password
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", r.URL.String()+r.Header.Get("Authorization"))
	if r.Header.Get("X-Fail") != "" {
		w.WriteHeader(http.StatusBadRequest)
	}
	_ = json.NewEncoder(w).Encode(whole)
}

const echoing = `
openapi: 3.0.3
info: {title: t, version: "1"}
paths:
  /x:
    get:
      operationId: getX
      parameters: [{in: header, name: X-Fail, schema: {type: string}}, {in: query, name: any, style: form, explode: true, schema: {type: object}}]
      responses: {"200": {description: x}}
`

func TestCredentials(t *testing.T) {
	t.Parallel()
	pair := base64.StdEncoding.EncodeToString([]byte("ann:" + canary))
	tests := []struct {
		name   string
		secret string
		config credential.Config
		sent   func(*http.Request) string
		want   string
	}{
		{"a key in a header", "k4n4ry-123", credential.Config{Kind: "api_key", In: "header", Name: "X-Key"}, func(r *http.Request) string { return r.Header.Get("X-Key") }, "k4n4ry-123"},
		{"a key in the query", canary, credential.Config{Kind: "api_key", In: "query", Name: "key"}, func(r *http.Request) string { return r.URL.Query().Get("key") }, canary},
		{"a key in a cookie", "k4n4ry-123", credential.Config{Kind: "api_key", In: "cookie", Name: "sid"}, func(r *http.Request) string { return r.Header.Get("Cookie") }, "sid=k4n4ry-123"},
		{"a token", "k4n4ry-123", credential.Config{Kind: "bearer"}, func(r *http.Request) string { return r.Header.Get("Authorization") }, "Bearer k4n4ry-123"},
		{"a password", canary, credential.Config{Kind: "basic", User: "ann"}, func(r *http.Request) string { return r.Header.Get("Authorization") }, "Basic " + pair},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sent := make(chan string, 1)
			w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
				sent <- tt.sent(r)
				echo(rw, r)
			})
			a := w.api(echoing)
			tt.config.File = w.file("secret", tt.secret+"\n")
			a.Credentials = []credential.Config{tt.config}
			c := w.up(a)
			for _, args := range []string{`{}`, `{"X-Fail":"yes","any":{"x":"y"}}`} {
				r, err := call(t, c, "shop_get_x", args)
				if err != nil {
					t.Fatal(err)
				}
				if got := <-sent; got != tt.want {
					t.Errorf("sent %q, want %q", got, tt.want)
				}
				leaks(t, "the result", r.String()+text(r)+string(r.GetStructured()))
				if !r.GetIsError() && !strings.Contains(r.String(), "[redacted]") {
					t.Errorf("nothing was taken out of %v", r)
				}
			}
			if tt.config.In == "query" {
				if _, err := call(t, c, "shop_get_x", `{"any":{"KEY":"mine"}}`); !fault.Is(err, providerv1.Reason_REASON_ARGUMENTS) {
					t.Errorf("an argument that sets the key: got error %v", err)
				}
			}
			for _, d := range tools(t, c) {
				leaks(t, "a definition", d.String())
			}
			// A secret that is replaced is used at once, and one that is away is not.
			w.file("secret", strings.Repeat("n", 10))
			if _, err := call(t, c, "shop_get_x", `{}`); err != nil {
				t.Fatal(err)
			}
			if got := <-sent; got == tt.want {
				t.Error("the old secret was sent")
			}
			w.file("secret", "")
			_, err := call(t, c, "shop_get_x", `{}`)
			if !fault.Is(err, providerv1.Reason_REASON_UPSTREAM) {
				t.Errorf("without a secret: got error %v, want REASON_UPSTREAM", err)
			}
			leaks(t, "the log", w.log.String())
		})
	}
}

// leaks looks for the canary in whatever form.
func leaks(t *testing.T, where, what string) {
	t.Helper()
	for _, form := range []string{"k4n4ry", base64.StdEncoding.EncodeToString([]byte("ann:" + canary)), base64.StdEncoding.EncodeToString([]byte("k4n4ry"))} {
		if strings.Contains(what, form) {
			t.Errorf("%s holds the secret: %s", where, what)
		}
	}
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	var broken, refusing atomic.Bool
	sent := make(chan string, 1)
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			sent <- r.Header.Get("Authorization")
			if refusing.Load() {
				rw.WriteHeader(http.StatusUnauthorized)
				return
			}
			echo(rw, r)
			return
		}
		n := asked.Add(1)
		user, password, _ := r.BasicAuth()
		b, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(b))
		rw.Header().Set("Content-Type", "application/json")
		if broken.Load() || user != "me" || password != "k4n4ry-secret" || form.Get("scope") != "a b" || form.Get("audience") != "x" {
			rw.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(rw, `{"error":"invalid_client","error_description":"%s is wrong"}`, password)
			return
		}
		_, _ = fmt.Fprintf(rw, `{"access_token":"k4n4ry-token-%d","token_type":"bearer","expires_in":3600}`, n)
	})
	a := w.api(echoing)
	a.Credentials = []credential.Config{{
		Kind: "oauth2", File: w.file("secret", "k4n4ry-secret"), TokenURL: w.srv.URL + "/token", ClientID: "me", Scopes: []string{"a", "b"}, Params: map[string]string{"audience": "x"},
	}}
	c := w.up(a)
	for range 3 {
		r, err := call(t, c, "shop_get_x", `{}`)
		if err != nil {
			t.Fatal(err)
		}
		leaks(t, "the result", r.String())
		if got := <-sent; got != "Bearer k4n4ry-token-1" || asked.Load() != 1 {
			t.Errorf("sent %q, asked for %d tokens", got, asked.Load())
		}
	}
	refusing.Store(true) // the token was revoked, say
	if _, err := call(t, c, "shop_get_x", `{}`); err != nil {
		t.Fatal(err)
	}
	<-sent
	refusing.Store(false)
	if _, err := call(t, c, "shop_get_x", `{}`); err != nil {
		t.Fatal(err)
	}
	if got := <-sent; got != "Bearer k4n4ry-token-2" {
		t.Errorf("after a 401: sent %q", got)
	}
	broken.Store(true)
	refusing.Store(true)
	if _, err := call(t, c, "shop_get_x", `{}`); err != nil {
		t.Fatal(err)
	}
	<-sent
	_, err := call(t, c, "shop_get_x", `{}`)
	if !fault.Is(err, providerv1.Reason_REASON_UPSTREAM) {
		t.Errorf("without a token: got error %v, want REASON_UPSTREAM", err)
	}
	leaks(t, "the error", fmt.Sprint(err))
	leaks(t, "the log", w.log.String())
	if !strings.Contains(w.log.String(), "invalid_client") {
		t.Error("the log does not say why")
	}
}

// What is for one host goes to no other, though it may be called.
func TestCredentialsAreOfOneHost(t *testing.T) {
	t.Parallel()
	documents := newWorld(t, nil)
	sent := make(chan http.Header, 100)
	documents.serve(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case sent <- r.Header:
		default:
		}
		_, _ = io.WriteString(rw, echoing)
	})
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, documents.srv.URL+"/stolen", http.StatusFound)
	})
	a := w.api(echoing)
	a.File, a.URL, a.CAFile = "", documents.srv.URL+"/openapi.yaml", documents.dir+"/ca.pem"
	a.Credentials = []credential.Config{{Kind: "bearer", File: w.file("secret", "k4n4ry-123")}}
	c := w.up(a)
	r, err := call(t, c, "shop_get_x", `{}`)
	if err != nil || !strings.Contains(text(r), "sends elsewhere") {
		t.Errorf("got %v, %v", r, err)
	}
	for {
		select {
		case h := <-sent:
			if h.Get("Authorization") != "" {
				t.Error("the credential was sent to another host")
			}
			continue
		default:
		}
		return
	}
}
