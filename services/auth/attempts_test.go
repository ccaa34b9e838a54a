package auth_test

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
)

func limits(perAddress, perKey int) func(*auth.Config) {
	return func(c *auth.Config) {
		c.BruteForce = auth.BruteForce{Window: time.Minute, PerAddress: perAddress, PerKey: perKey}
	}
}

// try shows a credential, and returns the answer as a word: good, bad, or for how
// long more like it are answered with that.
func (h *house) try(t *testing.T, text, address string) string {
	t.Helper()
	first, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text), Origin: from(address)})
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case first.GetPrincipal() != nil && first.RetryAfter == nil:
		return "good"
	case first.RetryAfter == nil:
		return "bad"
	}
	return first.GetRetryAfter().AsDuration().String()
}

func (h *house) tryOften(t *testing.T, n int, text, address string) (answers []string) {
	t.Helper()
	for range n {
		answers = append(answers, h.try(t, text, address))
	}
	return answers
}

// reasons are what was recorded of failures.
func (h *house) reasons() (all []string) {
	for _, e := range h.ledger.take() {
		if d := e.GetDecision(); d != nil {
			all = append(all, fmt.Sprintf("%s %s %s %s", strings.TrimPrefix(d.GetReason().String(), "REASON_"),
				e.GetActor().GetAddress(), e.GetActor().GetCredentialId(), d.GetMessage()))
		}
	}
	slices.Sort(all)
	return all
}

func TestTooManyFailuresOfAnAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), limits(3, 0))
		good := h.roleKey(t, "admin")
		steps := []struct {
			name          string
			after         time.Duration
			text, address string
			n             int
			want          []string
		}{
			{"the first are answered in full", 0, "password", "192.0.2.7", 3, []string{"bad", "bad", "bad"}},
			{"then there is a time to wait", 0, "password", "192.0.2.7", 2, []string{"1m0s", "1m0s"}},
			{"whatever is shown", 0, foreign, "192.0.2.7", 1, []string{"1m0s"}},
			{"an address in another form is the same", 0, foreign, "::ffff:192.0.2.7", 1, []string{"1m0s"}},
			{"a good credential is taken all the same", 0, good, "192.0.2.7", 2, []string{"good", "good"}},
			{"and is no pardon for bad ones", 0, foreign, "192.0.2.7", 1, []string{"1m0s"}},
			{"other addresses are not touched", 0, foreign, "192.0.2.8", 1, []string{"bad"}},
			{"a /64 is one address", 0, foreign, "2001:db8::1", 3, []string{"bad", "bad", "bad"}},
			{"so its others are limited", 0, foreign, "2001:db8::2", 1, []string{"1m0s"}},
			{"and another /64 is not", 0, foreign, "2001:db8:0:1::2", 1, []string{"bad"}},
			{"no address is one, too", 0, foreign, "", 4, []string{"bad", "bad", "bad", "1m0s"}},
			{"the wait is what is left of the window", 50 * time.Second, foreign, "192.0.2.7", 1, []string{"10s"}},
			{"trying does not make it longer", 9 * time.Second, foreign, "192.0.2.7", 1, []string{"1s"}},
			{"then it begins anew", time.Second, foreign, "192.0.2.7", 4, []string{"bad", "bad", "bad", "1m0s"}},
		}
		for _, s := range steps {
			time.Sleep(s.after)
			if diff := cmp.Diff(s.want, h.tryOften(t, s.n, s.text, s.address)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", s.name, diff)
			}
		}
	})
}

func TestAttemptsBeyondTheLimitAreRecordedInSum(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), limits(3, 0))
		id, _ := h.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
		wrong := apikey.MintSecret("dev", id).Reveal()
		h.ledger.take()
		for range 1000 {
			h.try(t, wrong, "192.0.2.7")
			h.try(t, "password", "192.0.2.7")
		}
		want := []string{
			"CREDENTIAL_MALFORMED 192.0.2.7  The credential is not good.",
			"CREDENTIAL_UNKNOWN 192.0.2.7 " + id + " The credential is not good.",
			"TOO_MANY_FAILURES 192.0.2.7  There were too many failed attempts from this address.",
		}
		if diff := cmp.Diff(want, h.reasons()); diff != "" {
			t.Errorf("at once (-want +got):\n%s", diff)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		want = []string{
			"CREDENTIAL_UNKNOWN 192.0.2.7 " + id + " The credential is not good. 1 more like this in 10s.",
			"TOO_MANY_FAILURES 192.0.2.7  There were too many failed attempts from this address. 1996 more like this in 10s.",
		}
		if diff := cmp.Diff(want, h.reasons()); diff != "" {
			t.Errorf("later (-want +got):\n%s", diff)
		}
	})
}

// TestTooManyFailuresWithAKey checks that a key which is tried from everywhere is
// noticed, that the answers do not tell whether there is such a key, and that its
// holder does not suffer.
func TestTooManyFailuresWithAKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), limits(0, 3))
		id, good := h.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
		h.ledger.take()
		wrong := apikey.MintSecret("dev", id).Reveal()
		nobodys := apikey.Mint("dev").Reveal()
		for n := range 20 {
			address := fmt.Sprintf("192.0.2.%d", n)
			got, other := h.try(t, wrong, address), h.try(t, nobodys, address)
			if want := map[bool]string{true: "bad", false: "1m0s"}[n < 3]; got != want || other != want {
				t.Errorf("attempt %d: got %s with a key that exists and %s with one that does not, want %s", n, got, other, want)
			}
		}
		if got := h.try(t, good, "192.0.2.1"); got != "good" {
			t.Errorf("the key itself: got %s", got)
		}
		want := "TOO_MANY_FAILURES  " + id + " There were too many failed attempts with this key, from anywhere."
		if got := h.reasons(); len(got) != 3+20+1 || !slices.Contains(got, want) {
			t.Errorf("got %d records %q, want 24 and %q once", len(got), got, want)
		}
	})
}

// answer is all that a caller gets of an answer.
type answer struct {
	message         any
	err             error
	header, trailer metadata.MD
}

// TestRefusalsAreAlike checks that the answers to credentials that are not good
// differ in nothing, before the limit and beyond it.
func TestRefusalsAreAlike(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), limits(3, 0))
		rotated, old := h.key(t, &authv1.CreateKeyRequest{Name: "rotated", Roles: []string{"admin"}})
		resealed(t, h, rotated)
		dead, revoked := h.key(t, &authv1.CreateKeyRequest{Name: "revoked", Roles: []string{"admin"}})
		if _, err := h.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: dead}); err != nil {
			t.Fatal(err)
		}
		_, expired := h.key(t, &authv1.CreateKeyRequest{Name: "expired", Roles: []string{"admin"}, ExpiresIn: durationpb.New(time.Minute)})
		_, elsewhere := h.key(t, &authv1.CreateKeyRequest{
			Name: "elsewhere", Roles: []string{"admin"}, Restrictions: &authv1.KeyRestrictions{Networks: []string{"10.0.0.0/8"}},
		})
		time.Sleep(time.Minute)
		kinds := map[string]string{
			"malformed": "password", "unknown": foreign, "wrong secret": old, "revoked": revoked, "expired": expired, "wrong network": elsewhere,
		}
		for n := range 5 {
			var first, firstAuthorized *answer
			number := 0
			for _, kind := range slices.Sorted(maps.Keys(kinds)) {
				number++
				address := fmt.Sprintf("192.0.2.%d", number)
				var got, authorized answer
				got.message, got.err = h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(kinds[kind]), Origin: from(address)},
					grpc.Header(&got.header), grpc.Trailer(&got.trailer))
				req := call(kinds[kind], "echo", "{}")
				req.Origin = from(address)
				authorized.message, authorized.err = h.auth.Authorize(t.Context(), req, grpc.Header(&authorized.header), grpc.Trailer(&authorized.trailer))
				if first == nil {
					first, firstAuthorized = &got, &authorized
				}
				for _, pair := range [][2]*answer{{first, &got}, {firstAuthorized, &authorized}} {
					if diff := cmp.Diff(pair[0], pair[1], cmp.AllowUnexported(answer{}), protocmp.Transform()); diff != "" {
						t.Errorf("%s, time %d: differs:\n%s", kind, n, diff)
					}
				}
			}
			resp, ok := first.message.(*authv1.AuthenticateResponse)
			if !ok || first.err != nil || resp.GetPrincipal() != nil || (resp.GetRetryAfter() != nil) != (n >= 2) {
				t.Errorf("time %d: got %v, %v; want no principal, and a time to wait after three attempts", n, first.message, first.err)
			}
		}
	})
}

// TestListsSayHowLongToWait checks that a list is refused like anything else.
func TestListsSayHowLongToWait(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), limits(3, 0))
	for n := range 8 {
		var got interface {
			GetPrincipal() *authv1.Principal
			GetRetryAfter() *durationpb.Duration
		}
		var err error
		if n%2 == 0 {
			got, err = h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{Credential: bearer(foreign), Origin: from("192.0.2.1")})
		} else {
			got, err = h.auth.FilterTargets(t.Context(), &authv1.FilterTargetsRequest{
				Credential: bearer(foreign), Origin: from("192.0.2.1"), Action: authv1.Action_ACTION_PROMPTS_GET,
			})
		}
		if err != nil || got.GetPrincipal() != nil || (got.GetRetryAfter() != nil) != (n >= 3) {
			t.Errorf("time %d: got %v, %v; want nobody, and a time to wait after three", n, got, err)
		}
	}
}

// TestEndlessAddressesTakeNoMemory does not run beside others, which would count.
func TestEndlessAddressesTakeNoMemory(t *testing.T) {
	h := open(t, newStore(t), nil)
	h.ledger.discard = true
	req := &authv1.AuthenticateRequest{Credential: bearer(foreign)}
	next := 0
	flood := func(n int) uint64 {
		for range n {
			next++
			req.Origin = &authv1.Origin{Address: fmt.Sprintf("2001:db8:%x:%x::1", next>>16, next&0xffff)}
			if _, err := h.service.Authenticate(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := flood(10_000)
	if after := flood(100_000); after > before+1<<20 {
		t.Errorf("100000 addresses more took %d bytes", after-before)
	}
}

// BenchmarkRefused measures a bad attempt, without gRPC, before the limit and
// beyond it.
func BenchmarkRefused(b *testing.B) {
	for name, edit := range map[string]func(*auth.Config){"counted": limits(0, 0), "beyond the limit": limits(1, 0)} {
		for kind, text := range map[string]string{"malformed": "password", "unknown": foreign} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				h := open(b, newStore(b), edit)
				h.ledger.discard = true
				req := &authv1.AuthenticateRequest{Credential: bearer(text), Origin: from("192.0.2.7")}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := h.service.Authenticate(b.Context(), req); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
