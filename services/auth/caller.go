package auth

import (
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// caller is who asks, whatever he showed. It never changes: what is remembered of
// him is remembered by his subject.
type caller struct {
	principal *authv1.Principal
	subject   *policy.Subject
	// key is the API key he showed, nil if it was something else. It can restrict
	// what he may do beyond policies.
	key *keyring.Key
	// scopes are those of his token, nil if he showed something else.
	scopes map[string]bool
	// proofKey is the thumbprint of the key that the credential is bound to (RFC 9449),
	// "" if to none. needsProof says that it has to be bound to one.
	proofKey   string
	needsProof bool
	// receipt is for the proof that he has shown, which is used up with that.
	receipt []byte
	// validUntil is when the credential ends for certain. Zero: it is good for this
	// request alone.
	validUntil time.Time
}

// ofKey returns the caller who has shown an API key.
func ofKey(k *keyring.Key, now time.Time) *caller {
	until := k.Record.Expires
	if k.State(now) == authv1.KeyState_KEY_STATE_ROTATING { // it may be the old secret
		until = earlier(until, k.Record.Secrets[1].Until)
	}
	return &caller{principal: k.Principal, subject: k.Subject, key: k, proofKey: k.Record.ProofKey, validUntil: until}
}

// allowsTool reports whether the credential itself may be used for a tool.
func (c *caller) allowsTool(name string) bool { return c.key == nil || c.key.AllowsTool(name) }

// toolsOnly reports whether the credential is good for some tools and nothing
// else.
func (c *caller) toolsOnly() bool { return c.key != nil && c.key.ToolsOnly() }

// touch notes a use of the credential.
func (c *caller) touch(now time.Time, tool, address string) {
	if c.key != nil {
		c.key.Touch(now, tool, address)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
