package oauth_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
)

// deskName is the issuer of opaque tokens.
const deskName = "https://id.example.com"

// The secret has what has to be escaped on its way.
const deskClient, deskSecret = "gate:1", "s3cret %&:+/word"

// desk is the introspection endpoint of an issuer.
type desk struct {
	*httptest.Server
	secretFile string

	mu      sync.Mutex
	asked   []*http.Request
	answers http.HandlerFunc
}

// newDesk returns a desk that answers as answers does.
func newDesk(t testing.TB, answers http.HandlerFunc) *desk {
	t.Helper()
	d := &desk{secretFile: filepath.Join(t.TempDir(), "secret"), answers: answers}
	d.write(t, deskSecret+"\n")
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // what cannot be read is missing, and a test says so
		d.mu.Lock()
		d.asked = append(d.asked, r)
		answers := d.answers
		d.mu.Unlock()
		answers(w, r)
	}))
	t.Cleanup(d.Close)
	return d
}

// from now on the desk answers like that.
func (d *desk) from(answers http.HandlerFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers = answers
}

// questions returns how often the desk was asked.
func (d *desk) questions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.asked)
}

// last returns the last question.
func (d *desk) last() *http.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[len(d.asked)-1]
}

func (d *desk) write(t testing.TB, secret string) {
	t.Helper()
	if err := os.WriteFile(d.secretFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issuer is the configuration of the desk's issuer.
func (d *desk) issuer() oauth.Issuer {
	return oauth.Issuer{
		Issuer: deskName, Tokens: "opaque", DPoP: "optional",
		Introspection: &oauth.Introspection{
			URL: d.URL + "/introspect", ClientID: deskClient, ClientSecretFile: d.secretFile, Timeout: 10 * time.Second,
		},
	}
}

func (d *desk) verifier(t testing.TB, edit func(*oauth.Config)) *oauth.Verifier {
	t.Helper()
	c := oauth.DefaultConfig()
	c.Resource, c.Issuers = resource, []oauth.Issuer{d.issuer()}
	if edit != nil {
		edit(&c)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	v, err := oauth.New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// active is what is said of a good token, but for the edits.
func active(now time.Time, edits object) object {
	all := object{
		"active": true, "iss": deskName, "sub": "anna", "aud": resource, "client_id": "inspector", "token_type": "Bearer",
		"scope": "tools:read sql:run", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nbf": now.Unix(),
		"username": "anna", "name": "Anna", "email": "anna@example.com", "roles": []string{"analyst", "Not a role"}, "jti": "1",
	}
	maps.Copy(all, edits)
	for name, value := range edits {
		if value == nil {
			delete(all, name)
		}
	}
	return all
}

// says answers with an object.
func says(o object) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = json.NewEncoder(w).Encode(o)
	}
}

// writes answers with a text of a type.
func writes(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(text))
	}
}
