package edge

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/seal"
)

// A request state is what a provider wants to have back with the client's
// answers. On its way through the client it is sealed, and under the seal bound
// to who asked for what, and to a time. Its layout under the seal: the second
// when it expires (8 bytes), an id (16), the binding (32), the provider's bytes.
const (
	stateIDSize  = 16
	stateHead    = 8 + stateIDSize + sha256.Size
	statePurpose = "request-state"
)

// badState is all that is told of a state that is not good, whatever is wrong.
const badState = "requestState is not valid for this request, or no longer"

var errNoRounds = errors.New("nothing remembers which request states were used")

// sealState seals a provider's state for this request. It reports false when
// that would be longer than a client could send back.
func (x *exchange) sealState(state []byte) (string, bool) { return x.sealWith(x.s.seals, state) }

// sealWith is sealState for other states than those of providers.
func (x *exchange) sealWith(box *seal.Box, state []byte) (string, bool) {
	if box.Length(stateHead+len(state))+len(`""`) > strictjson.DefaultLimits().StringBytes {
		return "", false
	}
	b := make([]byte, 0, stateHead+len(state))
	b = binary.BigEndian.AppendUint64(b, uint64(time.Now().Add(bus.RoundLife).Unix()))
	b = append(b, make([]byte, stateIDSize)...)
	_, _ = rand.Read(b[len(b)-stateIDSize:]) // never fails: crypto/rand ends the process instead
	binding := x.binding()
	b = append(append(b, binding[:]...), state...)
	return box.Seal(b), true
}

// openState opens a state that a client has brought back. It fails closed: the
// seal has to be ours, and the state for this request of this caller, and not
// expired.
func (x *exchange) openState(text string) (id string, state []byte, ok bool) {
	return x.openWith(x.s.seals, text)
}

// openWith is openState for other states than those of providers.
func (x *exchange) openWith(box *seal.Box, text string) (id string, state []byte, ok bool) {
	b, ok := box.Open(text)
	if !ok || len(b) < stateHead {
		return "", nil, false
	}
	expires := time.Unix(int64(binary.BigEndian.Uint64(b)), 0)
	binding := x.binding()
	if subtle.ConstantTimeCompare(b[stateHead-len(binding):stateHead], binding[:]) != 1 || !time.Now().Before(expires) {
		return "", nil, false
	}
	return hex.EncodeToString(b[8 : 8+stateIDSize]), b[stateHead:], true
}

// binding is a hash of who asks for what.
func (x *exchange) binding() [sha256.Size]byte {
	var b []byte
	for _, part := range [...]string{x.principal.GetId(), x.method, x.asked, string(x.digest)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return sha256.Sum256(b)
}
