package auth

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/dpop"
)

// proofWindow is how old a proof may be; its id is remembered for longer
// ([bus.ProofLife]).
const proofWindow = 2 * time.Minute

// proved returns the caller who has shown a good token or API key, if he has also
// proved that he holds the key that it is bound to, where it is bound to one. Else
// it returns nil and what the challenge shall say, and records it. The error is a
// fault, if it cannot be told.
func (s *Service) proved(ctx context.Context, shown *authv1.Credential, c *caller, origin *authv1.Origin, method string, now time.Time) (*caller, refused, error) {
	good, challenge, err := s.prove(ctx, shown, c, method == authenticate, now)
	if err != nil {
		return nil, refused{}, fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY,
			"proofs cannot be judged just now").After(time.Second).Because(err)
	}
	if good == nil {
		s.notGood(ctx, origin, method, auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, c.principal.GetCredentialId(), now)
	}
	return good, refused{challenge: challenge}, nil
}

// prove judges the proof. The first time, which is when the request is
// authenticated, the proof is used up in all auth processes and a receipt is given;
// from then on the receipt counts. The error says that it cannot be told whether a
// proof was used before (fails closed).
func (s *Service) prove(ctx context.Context, shown *authv1.Credential, c *caller, first bool, now time.Time) (*caller, authv1.ChallengeError, error) {
	if shown.GetScheme() != authv1.Scheme_SCHEME_DPOP {
		if c.proofKey != "" || c.needsProof {
			return nil, authv1.ChallengeError_CHALLENGE_ERROR_DPOP_NEEDED, nil
		}
		return c, 0, nil
	}
	const bad = authv1.ChallengeError_CHALLENGE_ERROR_DPOP_PROOF
	if c.proofKey == "" { // no proof makes a bearer credential more than that
		return nil, bad, nil
	}
	holder := *c
	holder.validUntil = time.Time{} // each request has its own proof
	asked := dpop.Request{Method: shown.GetHttpMethod(), URI: shown.GetHttpUri(), Token: shown.GetToken()}
	if !first {
		if !s.receipts.Good(shown.GetProofReceipt(), shown.GetDpopProof(), asked, now) {
			return nil, bad, nil
		}
		return &holder, 0, nil
	}
	proof, err := dpop.Check(shown.GetDpopProof(), asked, now, proofWindow, s.cfg.OAuth.Skew)
	if err != nil || proof.Thumbprint != c.proofKey {
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
	holder.receipt = s.receipts.Give(shown.GetDpopProof(), asked, now)
	return &holder, 0, nil
}
