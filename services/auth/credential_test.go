package auth_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// foreign is a well-formed key of nobody.
const foreign = "sp_dev_7Xk2abcdef_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg3xdlhJ"

// resealed gives a key a new secret at once, so that the one it had is wrong.
func resealed(t *testing.T, h *house, id string) string {
	t.Helper()
	resp, err := h.keys.RotateKey(t.Context(), &authv1.RotateKeyRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetSecret()
}

// TestCredentialsThatAreNotGood checks that they all get the same answer from
// every RPC, that the record tells them apart, and that no record repeats them.
func TestCredentialsThatAreNotGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), nil)
		good := h.roleKey(t, "admin")
		revokedID, revoked := h.key(t, &authv1.CreateKeyRequest{Name: "revoked", Roles: []string{"admin"}})
		if _, err := h.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: revokedID}); err != nil {
			t.Fatal(err)
		}
		expiredID, expired := h.key(t, &authv1.CreateKeyRequest{Name: "expired", Roles: []string{"admin"}, ExpiresIn: durationpb.New(time.Minute)})
		insideID, inside := h.key(t, &authv1.CreateKeyRequest{
			Name: "inside", Roles: []string{"admin"}, Restrictions: &authv1.KeyRestrictions{Networks: []string{"10.0.0.0/8", "2001:db8::/32"}},
		})
		rotatedID, old := h.key(t, &authv1.CreateKeyRequest{Name: "rotated", Roles: []string{"admin"}})
		resealed(t, h, rotatedID)
		time.Sleep(time.Minute)
		h.ledger.take()

		tests := []struct {
			name       string
			credential *authv1.Credential
			reason     auditv1.Reason
			id         string // in the record
		}{
			{"a word", bearer("password"), auditv1.Reason_REASON_CREDENTIAL_MALFORMED, ""},
			{"a key with a typing mistake", bearer(good[:len(good)-1] + "!"), auditv1.Reason_REASON_CREDENTIAL_MALFORMED, ""},
			{"a JSON web token", bearer("eyJhbGciOiJub25lIn0.e30."), auditv1.Reason_REASON_CREDENTIAL_MALFORMED, ""},
			{"a key of nobody under DPoP", &authv1.Credential{Scheme: authv1.Scheme_SCHEME_DPOP, Token: foreign}, auditv1.Reason_REASON_CREDENTIAL_UNKNOWN, ""},
			{"a key of nobody", bearer(foreign), auditv1.Reason_REASON_CREDENTIAL_UNKNOWN, ""},
			{"a wrong secret for a key that exists", bearer(old), auditv1.Reason_REASON_CREDENTIAL_UNKNOWN, rotatedID},
			{"an expired key", bearer(expired), auditv1.Reason_REASON_CREDENTIAL_EXPIRED, expiredID},
			{"a revoked key", bearer(revoked), auditv1.Reason_REASON_CREDENTIAL_REVOKED, revokedID},
			{"a key from a network that it is not for", bearer(inside), auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, insideID},
		}
		for _, tt := range tests {
			authenticated, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: tt.credential, Origin: from("192.0.2.7")})
			if err != nil || !proto.Equal(authenticated, &authv1.AuthenticateResponse{}) {
				t.Errorf("%s: Authenticate: got %v, %v; want nothing", tt.name, authenticated, err)
			}
			req := call("x", "echo", "{}")
			req.Credential = tt.credential
			authorized, err := h.auth.Authorize(t.Context(), req)
			if err != nil || !proto.Equal(authorized, &authv1.AuthorizeResponse{}) {
				t.Errorf("%s: Authorize: got %v, %v; want nothing", tt.name, authorized, err)
			}
			filtered, err := h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{Credential: tt.credential, Origin: from("192.0.2.7"), Tools: []string{"echo"}})
			if err != nil || !proto.Equal(filtered, &authv1.FilterToolsResponse{}) {
				t.Errorf("%s: FilterTools: got %v, %v; want nothing", tt.name, filtered, err)
			}
			events := h.ledger.take()
			if len(events) == 0 { // the same reason was recorded a moment ago
				time.Sleep(11 * time.Second)
				synctest.Wait()
				events = h.ledger.take()
			}
			if len(events) != 1 || events[0].GetDecision().GetReason() != tt.reason || events[0].GetActor().GetCredentialId() != tt.id {
				t.Errorf("%s: got events %v, want one with %v of %q", tt.name, events, tt.reason, tt.id)
			}
			for _, e := range events {
				if text := e.String(); strings.Contains(text, tt.credential.GetToken()) || e.GetActor().GetAddress() != "192.0.2.7" {
					t.Errorf("%s: the record shows the credential or not the address: %s", tt.name, text)
				}
			}
			time.Sleep(30 * time.Second) // forget
			synctest.Wait()
			h.ledger.take()
		}
		for _, address := range []string{"10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"} {
			resp, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(inside), Origin: from(address)})
			if err != nil || resp.GetPrincipal() == nil {
				t.Errorf("from %s: got %v, %v; want a principal", address, resp, err)
			}
		}
		for _, origin := range []*authv1.Origin{nil, from(""), from("somewhere"), from("2001:db9::1")} {
			resp, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(inside), Origin: origin})
			if err != nil || resp.GetPrincipal() != nil {
				t.Errorf("from %v: got %v, %v; want nothing", origin, resp, err)
			}
		}
	})
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), nil)
		id, text := h.key(t, &authv1.CreateKeyRequest{
			Name: "ci", Owner: "anna", Tenant: "acme", Roles: []string{"intern", "analyst"}, ExpiresIn: durationpb.New(time.Minute),
		})
		for _, scheme := range []authv1.Scheme{authv1.Scheme_SCHEME_BEARER, authv1.Scheme_SCHEME_API_KEY} {
			got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: &authv1.Credential{Scheme: scheme, Token: text}})
			if err != nil {
				t.Fatal(err)
			}
			want := &authv1.AuthenticateResponse{
				Principal: &authv1.Principal{
					Id: "key:" + id, Owner: "anna", Name: "ci", CredentialId: id, Tenant: "acme", Roles: []string{"analyst", "intern"},
				},
				ValidFor: durationpb.New(5 * time.Second),
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("%v (-want +got):\n%s", scheme, diff)
			}
		}
		time.Sleep(58 * time.Second)
		got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text)})
		if err != nil || got.GetValidFor().AsDuration() != 2*time.Second {
			t.Errorf("two seconds before the end: got %v, %v; want it valid for those", got, err)
		}
	})
}

func TestKeyOfAnotherEnvironmentIsUnknown(t *testing.T) {
	t.Parallel()
	st := newStore(t)
	text := open(t, st, nil).roleKey(t, "admin")
	live := open(t, st, func(c *auth.Config) { c.Env = "live" })
	resp, err := live.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text)})
	if err != nil || resp.GetPrincipal() != nil {
		t.Errorf("got %v, %v; want nothing", resp, err)
	}
}

func TestFailuresThatAreAlikeAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), func(c *auth.Config) { c.BruteForce.PerAddress, c.BruteForce.PerKey = 0, 0 })
		try := func(address string) {
			t.Helper()
			if _, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(foreign), Origin: from(address)}); err != nil {
				t.Fatal(err)
			}
		}
		for range 1000 {
			try("192.0.2.7")
		}
		try("192.0.2.8")
		for i := range 50 { // one customer with all of a /64
			try(fmt.Sprintf("2001:db8::%x", i))
		}
		if got := len(h.ledger.take()); got != 3 {
			t.Errorf("got %d events at once, want 3", got)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		var messages []string
		for _, e := range h.ledger.take() {
			messages = append(messages, e.GetActor().GetAddress()+" "+e.GetDecision().GetMessage())
		}
		all := strings.Join(messages, "\n")
		if len(messages) != 2 || !strings.Contains(all, "192.0.2.7 The credential is not good. 999 more") || !strings.Contains(all, ". 49 more") {
			t.Errorf("got messages %q ten seconds later, want two with 999 and 49 more", messages)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		try("192.0.2.7")
		if got := len(h.ledger.take()); got != 1 {
			t.Errorf("got %d events a minute later, want 1", got)
		}
	})
}

func TestFailuresWithoutEndTakeBoundedRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), nil)
		for i := range 6000 {
			origin := from(fmt.Sprintf("10.%d.%d.1", i/250, i%250))
			if _, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(foreign), Origin: origin}); err != nil {
				t.Fatal(err)
			}
		}
		events := h.ledger.take()
		if len(events) != 4097 {
			t.Errorf("got %d events from 6000 addresses, want 4096 and one for the rest", len(events))
		}
		if last := events[len(events)-1]; last.GetActor().GetAddress() != "" {
			t.Errorf("got %v for the rest, want no address", last)
		}
	})
}
