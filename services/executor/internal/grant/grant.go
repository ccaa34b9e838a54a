// Package grant opens grants: the proof that auth has allowed one call. Auth
// and the executor share a key that the edge does not have, so an edge that is
// in an attacker's hands cannot make one.
//
// A grant that is not good for exactly the call at hand is refused; the reason
// is for the audit record and never for the caller.
package grant

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// The layout of sallyport.auth.v1.Grant: version, length of the key id, key id,
// message, MAC.
const (
	version  = 1
	macSize  = sha256.Size
	maxGrant = 4096
)

// Why a grant is not good.
var (
	ErrMalformed = errors.New("malformed")
	ErrKey       = errors.New("unknown key")
	ErrMAC       = errors.New("forged")
	ErrExpired   = errors.New("expired")
	ErrCall      = errors.New("for another call")
	ErrDigest    = errors.New("for another definition of the tool")
	ErrRevoked   = errors.New("of a credential that was revoked since")
	ErrLong      = errors.New("good for longer than its use can be remembered")
	ErrUsed      = errors.New("used before")
	ErrFull      = errors.New("too many grants in use")
)

// ErrUnclaimed says that it is not known whether a grant was used before. It
// tells nothing about the grant.
var ErrUnclaimed = errors.New("not known whether the grant was used before")

// Keys finds MAC keys by id.
type Keys interface {
	// Key returns the key with an id, or nil.
	Key(id string) []byte
}

// KeyID returns the id of the key that a grant was made with, "" if it is none.
func KeyID(b []byte) string {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return ""
	}
	return string(b[2 : 2+int(b[1])])
}

// Open checks the MAC and the expiry of a grant and returns what it says. With
// ErrExpired the grant is returned as well: it is genuine, so it tells who
// asked.
func Open(b []byte, keys Keys, now time.Time) (*authv1.Grant, error) {
	if len(b) < 2+macSize || len(b) > maxGrant || b[0] != version {
		return nil, ErrMalformed
	}
	start, end := 2+int(b[1]), len(b)-macSize
	if start > end {
		return nil, ErrMalformed
	}
	key := keys.Key(string(b[2:start]))
	if key == nil {
		return nil, ErrKey
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(b[:end])
	var sum [macSize]byte
	if !hmac.Equal(mac.Sum(sum[:0]), b[end:]) {
		return nil, ErrMAC
	}
	g := &authv1.Grant{}
	if err := proto.Unmarshal(b[start:end], g); err != nil {
		return nil, ErrMalformed
	}
	if g.GetDecisionId() == "" || g.GetPrincipal().GetId() == "" || g.GetOrigin() == nil ||
		len(g.GetArgumentsSha256()) != sha256.Size || g.GetExpires().CheckValid() != nil {
		return nil, ErrMalformed
	}
	if !now.Before(g.GetExpires().AsTime()) {
		return g, ErrExpired
	}
	return g, nil
}
