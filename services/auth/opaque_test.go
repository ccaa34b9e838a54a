package auth_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
)

// clerk is an issuer that is asked about its tokens. Those that begin with "good" are.
type clerk struct {
	*httptest.Server
	secret  string
	asked   atomic.Int64
	away    atomic.Bool
	revoked atomic.Bool
	hold    chan struct{} // if not nil, no answer before it is closed
	came    chan struct{}
}

func newClerk(t *testing.T) *clerk {
	t.Helper()
	c := &clerk{secret: filepath.Join(t.TempDir(), "secret"), came: make(chan struct{}, 1000)}
	if err := os.WriteFile(c.secret, []byte("word"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		c.came <- struct{}{}
		if c.hold != nil {
			<-c.hold
		}
		if c.away.Load() {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		good := strings.HasPrefix(r.FormValue("token"), "good") && !c.revoked.Load()
		_, _ = fmt.Fprintf(w, `{"active":%v,"sub":"anna","client_id":"c","aud":"https://gate.example.com/mcp","roles":["analyst"],"exp":%d}`,
			good, time.Now().Add(time.Hour).Unix())
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *clerk) config(cfg *auth.Config) {
	cfg.OAuth.Resource = "https://gate.example.com/mcp"
	cfg.OAuth.Issuers = []oauth.Issuer{{Issuer: c.URL, Tokens: "opaque", Introspection: &oauth.Introspection{
		URL: c.URL + "/introspect", ClientID: "gate", ClientSecretFile: c.secret, Cache: time.Second, Timeout: 10 * time.Second,
	}}}
}

// Neither auth nor the edge goes by an answer for longer than is configured.
func TestOpaqueTokensAreCredentials(t *testing.T) {
	t.Parallel()
	c := newClerk(t)
	h := open(t, newStore(t), c.config)
	show := func(text string) *authv1.AuthenticateResponse {
		t.Helper()
		got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text), Origin: from("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := show("good-one")
	if p := got.GetPrincipal(); p.GetId() != "user:"+c.URL+"/anna" || got.GetValidFor() == nil || got.GetValidFor().AsDuration() > time.Second {
		t.Errorf("got %v, want anna for a second at most", got)
	}
	h.ledger.take()
	c.revoked.Store(true)
	for deadline := time.Now().Add(30 * time.Second); show("good-one").GetPrincipal() != nil; {
		if time.Now().After(deadline) {
			t.Fatal("a revoked token stays good")
		}
	}
	if got := h.reasons(); len(got) != 1 || !strings.HasPrefix(got[0], "CREDENTIAL_EXPIRED ") {
		t.Errorf("got %q on record", got)
	}
	// Its holder is told so, however often, and gets another: he has guessed nothing.
	for range 100 {
		if got := show("good-one"); got.GetRetryAfter() != nil {
			t.Fatalf("got %v", got)
		}
	}
}

// What is no token is told to nobody, and no issuer is asked beyond the limit on an
// address.
func TestFloodsDoNotReachIssuers(t *testing.T) {
	t.Parallel()
	c := newClerk(t)
	h := open(t, newStore(t), func(cfg *auth.Config) { c.config(cfg); limits(3, 0)(cfg) })
	if h.try(t, foreign, "198.51.100.1"); c.asked.Load() != 0 {
		t.Fatal("an issuer was asked about an API key")
	}
	key := &authv1.Credential{Scheme: authv1.Scheme_SCHEME_API_KEY, Token: "good-as-a-key"}
	if got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: key, Origin: from("198.51.100.1")}); err != nil || got.GetPrincipal() != nil || c.asked.Load() != 0 {
		t.Fatalf("shown as an API key: got %v, %v", got, err)
	}
	if got := h.try(t, "good-one", "192.0.2.8"); got != "good" {
		t.Fatalf("got %s", got)
	}
	c.asked.Store(0)
	h.ledger.take()
	for n := range 3 {
		if got := h.try(t, fmt.Sprint("bad", n), "192.0.2.7"); got != "bad" {
			t.Fatalf("failure %d: got %s", n, got)
		}
	}
	for n := range 100 {
		if got := h.try(t, fmt.Sprint("more", n), "192.0.2.7"); got == "bad" || got == "good" {
			t.Fatalf("beyond the limit: got %s, want a time to wait", got)
		}
	}
	if n := c.asked.Load(); n != 3 {
		t.Errorf("the issuer was asked %d times, want 3", n)
	}
	if got := h.reasons(); len(got) != 2 || !strings.HasPrefix(got[1], "TOO_MANY_FAILURES 192.0.2.7 ") {
		t.Errorf("got %q on record", got)
	}
	if got := h.try(t, "good-one", "192.0.2.7"); got != "good" {
		t.Errorf("one that has been good, from the same address: got %s", got)
	}
	if got := h.try(t, "good-two", "192.0.2.8"); got != "good" {
		t.Errorf("a new one from another address: got %s", got)
	}
}

// The limit counts for those who wait, too.
func TestFloodAtOnce(t *testing.T) {
	t.Parallel()
	const most = 16 // questions at once
	c := newClerk(t)
	c.hold = make(chan struct{})
	h := open(t, newStore(t), func(cfg *auth.Config) { c.config(cfg); limits(3, 0)(cfg) })
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			req := &authv1.AuthenticateRequest{Credential: bearer(fmt.Sprint("bad", n)), Origin: from("192.0.2.7")}
			if got, err := h.auth.Authenticate(t.Context(), req); err != nil || got.GetPrincipal() != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	for range most {
		<-c.came
	}
	h.tryOften(t, 4, foreign, "192.0.2.7") // an API key, so nobody is asked
	close(c.hold)
	wg.Wait()
	if n := c.asked.Load(); n != most {
		t.Errorf("the issuer was asked %d times, want %d", n, most)
	}
}

// That an issuer is away is nobody's failure, and not said of the token.
func TestIssuerThatIsAwayIsNoFailure(t *testing.T) {
	t.Parallel()
	c := newClerk(t)
	h := open(t, newStore(t), func(cfg *auth.Config) { c.config(cfg); limits(3, 0)(cfg) })
	c.away.Store(true)
	h.ledger.take()
	for n := range 10 {
		_, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(fmt.Sprint("good", n)), Origin: from("192.0.2.7")})
		if status.Code(err) != codes.Unavailable || !fault.Is(err, faultv1.Reason_REASON_NOT_READY) {
			t.Fatalf("got %v, want that it is not ready", err)
		}
	}
	if got := h.reasons(); len(got) > 0 {
		t.Errorf("got %q on record", got)
	}
	c.away.Store(false)
	if got := h.try(t, "good0", "192.0.2.7"); got != "good" {
		t.Errorf("when it is back: got %s", got)
	}
}
