package auth_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// proven is a credential that is shown with a proof.
func proven(token, proof string) *authv1.Credential {
	return &authv1.Credential{
		Scheme: authv1.Scheme_SCHEME_DPOP, Token: token, DpopProof: proof,
		HttpMethod: "POST", HttpUri: "https://gate.example.com/mcp",
	}
}

// authenticated asks whose a credential is.
func authenticated(t *testing.T, h *house, c *authv1.Credential, address string) *authv1.AuthenticateResponse {
	t.Helper()
	got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: c, Origin: from(address)})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// An API key that is bound to a client's key is good with a proof of that key for
// just this request, once over all processes, and for the rest of the request by
// the receipt. No issuer has to be configured for that.
func TestProofsOfKeys(t *testing.T) {
	t.Parallel()
	const address = "192.0.2.1"
	client := newProver(t)
	st := newStore(t)
	here := open(t, st, nil)
	id, key := here.key(t, &authv1.CreateKeyRequest{Name: "bound", Roles: []string{"admin"}, ProofThumbprint: client.thumbprint})
	there := open(t, st, nil)

	good := proven(key, client.prove(t, key, nil))
	got := authenticated(t, here, good, address)
	if got.GetPrincipal().GetCredentialId() != id || got.GetValidFor() != nil || len(got.GetProofReceipt()) == 0 {
		t.Fatalf("a good proof: got %v, want the key's principal for this request alone, and a receipt", got)
	}
	rest := func(c *authv1.Credential) (listed, granted bool) {
		t.Helper()
		filtered, err := there.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{Credential: c, Origin: from(address), Tools: []string{"echo"}})
		if err != nil {
			t.Fatal(err)
		}
		req := call("", "echo", "{}")
		req.Credential = c
		authorized, err := there.auth.Authorize(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return len(filtered.GetAllowed()) == 1, len(authorized.GetGrant()) > 0
	}
	if listed, granted := rest(good); listed || granted {
		t.Errorf("a proof without its receipt: got the tool listed %v, a grant %v; want neither", listed, granted)
	}
	good.ProofReceipt = got.GetProofReceipt()
	if listed, granted := rest(good); !listed || !granted {
		t.Errorf("a receipt at another process: got the tool listed %v, a grant %v; want both", listed, granted)
	}
	for name, h := range map[string]*house{"here": here, "there": there} {
		if again := authenticated(t, h, good, address); again.GetPrincipal() != nil || again.GetChallenge() != authv1.ChallengeError_CHALLENGE_ERROR_DPOP_PROOF {
			t.Errorf("the same proof again %s: got %v", name, again)
		}
	}

	// Where it cannot be noted that a proof is used up, it is not taken.
	fresh := proven(key, client.prove(t, key, nil))
	st.set(false, true)
	_, err := here.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: fresh, Origin: from(address)})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("without a store: got error %v, want %v", err, codes.Unavailable)
	}
}

// Each refusal has the challenge that says what to do, and is on record with the
// id of the key.
func TestProofsOfKeysThatAreNotGood(t *testing.T) {
	t.Parallel()
	client, thief := newProver(t), newProver(t)
	h := open(t, newStore(t), nil)
	boundID, bound := h.key(t, &authv1.CreateKeyRequest{Name: "bound", Roles: []string{"admin"}, ProofThumbprint: client.thumbprint})
	freeID, free := h.key(t, &authv1.CreateKeyRequest{Name: "free", Roles: []string{"admin"}})
	used := proven(bound, client.prove(t, bound, nil))
	if authenticated(t, h, used, "192.0.2.200").GetPrincipal() == nil {
		t.Fatal("a good proof is refused")
	}
	const bad, needed = authv1.ChallengeError_CHALLENGE_ERROR_DPOP_PROOF, authv1.ChallengeError_CHALLENGE_ERROR_DPOP_NEEDED
	proof := func(edits map[string]any) *authv1.Credential { return proven(bound, client.prove(t, bound, edits)) }
	tests := []struct {
		name string
		c    *authv1.Credential
		id   string
		want authv1.ChallengeError
	}{
		{"sent as Bearer", bearer(bound), boundID, needed},
		{"sent as X-API-Key", &authv1.Credential{Scheme: authv1.Scheme_SCHEME_API_KEY, Token: bound}, boundID, needed},
		{"without a proof", proven(bound, ""), boundID, bad},
		{"the same proof again", used, boundID, bad},
		{"a proof of another key", proven(bound, thief.prove(t, bound, nil)), boundID, bad},
		{"a proof for another API key", proven(bound, client.prove(t, free, nil)), boundID, bad},
		{"a proof without ath", proof(map[string]any{"ath": ""}), boundID, bad},
		{"a proof for another method", proof(map[string]any{"htm": "GET"}), boundID, bad},
		{"a proof for another address", proof(map[string]any{"htu": "https://gate.example.com/other"}), boundID, bad},
		{"an old proof", proof(map[string]any{"iat": time.Now().Add(-time.Hour).Unix()}), boundID, bad},
		{"a proof of tomorrow", proof(map[string]any{"iat": time.Now().Add(24 * time.Hour).Unix()}), boundID, bad},
		{"a key that is bound to nothing", proven(free, client.prove(t, free, nil)), freeID, bad},
	}
	h.ledger.take()
	for i, tt := range tests {
		got := authenticated(t, h, tt.c, fmt.Sprintf("192.0.2.%d", i)) // records of one address are summed up
		if got.GetPrincipal() != nil || got.GetProofReceipt() != nil || got.GetChallenge() != tt.want {
			t.Errorf("%s: got %v, want the challenge %v", tt.name, got, tt.want)
		}
		events := h.ledger.take()
		if len(events) != 1 || events[0].GetDecision().GetReason() != auditv1.Reason_REASON_CREDENTIAL_RESTRICTED || events[0].GetActor().GetCredentialId() != tt.id {
			t.Errorf("%s: got events %v, want one with %v of %s", tt.name, events, auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, tt.id)
		}
	}
}

// What a key is bound to is shown and on record, and stays when it gets a new
// secret. That it is good at all is judged first: a revoked key is revoked.
func TestLifeOfABoundKey(t *testing.T) {
	t.Parallel()
	client := newProver(t)
	h := open(t, newStore(t), nil)
	id, first := h.key(t, &authv1.CreateKeyRequest{Name: "bound", Roles: []string{"admin"}, ProofThumbprint: client.thumbprint})
	events := h.ledger.take()
	if len(events) != 1 || events[0].GetAdmin().GetDetails()["proof_thumbprint"] != client.thumbprint {
		t.Errorf("got events %v, want one that names the thumbprint", events)
	}
	rotated, err := h.keys.RotateKey(t.Context(), &authv1.RotateKeyRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	second := rotated.GetSecret()
	if got := rotated.GetKey().GetProofThumbprint(); got != client.thumbprint {
		t.Errorf("rotated: got thumbprint %q, want %q", got, client.thumbprint)
	}
	list, err := h.keys.ListKeys(t.Context(), &authv1.ListKeysRequest{})
	if err != nil || len(list.GetKeys()) != 1 || list.GetKeys()[0].GetProofThumbprint() != client.thumbprint {
		t.Errorf("ListKeys: got %v, %v; want the thumbprint %s", list, err, client.thumbprint)
	}
	if got := authenticated(t, h, bearer(second), "192.0.2.1"); got.GetPrincipal() != nil || got.GetChallenge() != authv1.ChallengeError_CHALLENGE_ERROR_DPOP_NEEDED {
		t.Errorf("the new secret as Bearer: got %v", got)
	}
	if got := authenticated(t, h, proven(first, client.prove(t, first, nil)), "192.0.2.1"); got.GetPrincipal() != nil || got.GetChallenge() != 0 {
		t.Errorf("the old secret with a proof: got %v", got)
	}
	if got := authenticated(t, h, proven(second, client.prove(t, second, nil)), "192.0.2.1"); got.GetPrincipal() == nil {
		t.Errorf("the new secret with a proof: got %v, want it good", got)
	}
	if _, err := h.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	h.ledger.take()
	if got := authenticated(t, h, proven(second, client.prove(t, second, nil)), "192.0.2.9"); got.GetPrincipal() != nil || got.GetChallenge() != 0 {
		t.Errorf("revoked: got %v", got)
	}
	if events := h.ledger.take(); len(events) != 1 || events[0].GetDecision().GetReason() != auditv1.Reason_REASON_CREDENTIAL_REVOKED {
		t.Errorf("revoked: got events %v, want one with %v", events, auditv1.Reason_REASON_CREDENTIAL_REVOKED)
	}
}

// Without issuers a server still says what a proof may be, for challenges about API
// keys, and nothing that would send an OAuth client away to get a token.
func TestAlgorithmsOfProofsWithoutIssuers(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	got, err := h.auth.DescribeResource(t.Context(), &authv1.DescribeResourceRequest{})
	if err != nil || len(got.GetDpopAlgorithms()) == 0 || got.GetResource() != "" || got.GetDpopRequired() {
		t.Errorf("got %v, %v; want algorithms and no resource", got, err)
	}
}
