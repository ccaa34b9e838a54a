package auth

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/dpop"
)

// proofWindow is how old a proof may be; its id is remembered for longer
// ([bus.ProofLife]).
const proofWindow = 2 * time.Minute

// proved returns the caller of a good token, if he has proved that he holds the key
// that it is bound to, where it is bound to one. The first time, which is when the
// request is authenticated, the proof is used up in all auth processes and a
// receipt is given; from then on the receipt counts. The error says that it cannot
// be told whether a proof was used before (fails closed).
func (s *Service) proved(ctx context.Context, shown *authv1.Credential, g *goodToken, first bool, now time.Time) (*caller, authv1.ChallengeError, error) {
	id := g.verdict.Identity
	if shown.GetScheme() != authv1.Scheme_SCHEME_DPOP {
		if id.Key != "" || id.NeedsKey {
			return nil, authv1.ChallengeError_CHALLENGE_ERROR_DPOP_NEEDED, nil
		}
		return g.caller, 0, nil
	}
	const bad = authv1.ChallengeError_CHALLENGE_ERROR_DPOP_PROOF
	if id.Key == "" { // no proof makes a bearer token more than that
		return nil, bad, nil
	}
	c := *g.caller
	c.validUntil = time.Time{} // each request has its own proof
	asked := dpop.Request{Method: shown.GetHttpMethod(), URI: shown.GetHttpUri(), Token: shown.GetToken()}
	if !first {
		if !s.receipts.Good(shown.GetProofReceipt(), shown.GetDpopProof(), asked, now) {
			return nil, bad, nil
		}
		return &c, 0, nil
	}
	proof, err := dpop.Check(shown.GetDpopProof(), asked, now, proofWindow, s.cfg.OAuth.Skew)
	if err != nil || proof.Thumbprint != id.Key {
		return nil, bad, nil
	}
	wait, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	switch _, err := s.deps.Store.Create(wait, bus.Proofs, proof.Claim, []byte{1}); {
	case errors.Is(err, bus.ErrExists):
		return nil, bad, nil
	case err != nil:
		return nil, 0, err
	}
	c.receipt = s.receipts.Give(shown.GetDpopProof(), asked, now)
	return &c, 0, nil
}
