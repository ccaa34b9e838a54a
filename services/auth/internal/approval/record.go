// Package approval keeps what is known of calls that somebody has to approve:
// the form in which the store has it, and a copy in memory.
//
// The store decides. Whatever turns an approval into a permission is written
// against the revision that was read, so of several processes that try one
// succeeds; the copy in memory is for lists, counts and those who wait.
package approval

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

const (
	// version is the first byte of the stored form, and of what is sealed with it.
	version = 1
	// purpose keeps the key of this package apart from others made of the same.
	purpose = "sallyport-call-approval-v1"
	// bindingDomain keeps these hashes apart from others.
	bindingDomain = "sallyport-call-approval-binding-v1"
	keySize       = 32
)

// ErrForeign says that an entry was not written with this key for this place, or
// was changed since. It approves nothing.
var ErrForeign = errors.New("approval record: not sealed by this key for this entry")

// Call is what an approval is bound to.
type Call struct {
	Principal       string // its id
	Tool            string
	ToolDigest      []byte // of the definition that policies saw
	ArgumentsSHA256 []byte
}

// Key returns the name of the entry that the store has for the call, the same
// for the same call only.
func (c Call) Key() string {
	h := sha256.New()
	for _, part := range [...][]byte{[]byte(bindingDomain), []byte(c.Principal), []byte(c.Tool), c.ToolDigest, c.ArgumentsSHA256} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part))) // a hash takes everything
		_, _ = h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Box seals records for the store, which must neither read them, for there are
// arguments in them, nor be able to make or change one. It is safe for
// concurrent use.
//
// Whoever can write to the store could put back an older form of an entry, and
// so use an approval again until it expires; nothing else.
type Box struct{ sealer cipher.AEAD }

// NewBox returns a box whose key is derived from key.
func NewBox(key secret.Key) (*Box, error) {
	derived, err := hkdf.Key(sha256.New, key.Bytes(), nil, purpose, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of approvals: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	sealer, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	return &Box{sealer}, nil
}

// Seal returns the stored form of a record for the entry called key: version,
// nonce, ciphertext and tag.
func (b *Box) Seal(key string, r *authv1.ApprovalRecord) ([]byte, error) {
	plain, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("seal an approval record: %w", err)
	}
	sealed := make([]byte, 1, 1+len(plain)+b.sealer.Overhead())
	sealed[0] = version
	return b.sealer.Seal(sealed, nil, plain, bound(key)), nil
}

// Open reads the stored form of the entry called key. It fails closed, with
// [ErrForeign] for whatever this box has not sealed for it.
func (b *Box) Open(key string, sealed []byte) (*authv1.ApprovalRecord, error) {
	if len(sealed) == 0 || sealed[0] != version {
		return nil, ErrForeign
	}
	plain, err := b.sealer.Open(nil, nil, sealed[1:], bound(key))
	if err != nil {
		return nil, ErrForeign
	}
	r := new(authv1.ApprovalRecord)
	if err := proto.Unmarshal(plain, r); err != nil {
		return nil, fmt.Errorf("read an approval record: %w", err)
	}
	if r.GetApproval().GetId() == "" {
		return nil, errors.New("read an approval record: incomplete")
	}
	return r, nil
}

// bound is what a seal is over besides the record.
func bound(key string) []byte { return append([]byte{version}, purpose+"\x00"+key...) }

// State tells where an approval is in its life: what is written, but for the
// time.
func State(a *authv1.CallApproval, now time.Time) authv1.ApprovalState {
	switch a.GetState() {
	case authv1.ApprovalState_APPROVAL_STATE_PENDING, authv1.ApprovalState_APPROVAL_STATE_APPROVED:
		if !now.Before(a.GetExpireTime().AsTime()) {
			return authv1.ApprovalState_APPROVAL_STATE_EXPIRED
		}
	}
	return a.GetState()
}

// Ended tells since when nothing can come of an approval any more; zero while
// something can.
func Ended(a *authv1.CallApproval, now time.Time) time.Time {
	switch State(a, now) {
	case authv1.ApprovalState_APPROVAL_STATE_PENDING, authv1.ApprovalState_APPROVAL_STATE_APPROVED:
		return time.Time{}
	case authv1.ApprovalState_APPROVAL_STATE_EXPIRED:
		return a.GetExpireTime().AsTime()
	}
	return a.GetDecideTime().AsTime()
}
