package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// slotCount is how many parts the keys are divided into.
const slotCount = 1024

// slotOf takes bits that the limiter's shards do not.
func slotOf(k limiter.Key) int { return int(k.Hi >> 54) }

// nobody is the index of no member.
const nobody = -1

// view says who owns what. It is never written after newView.
type view struct {
	epoch, revision  uint64
	members, leaving []string
	owners, heirs    [slotCount]int16 // indexes of members

	// past are the views since the last that was settled, gone is who was a member
	// then and is no more. See doubt.go.
	past      []*quotav1.PastView
	gone      []string
	forgotten bool
	// lost is for each slot the last past view whose owner and heir are both gone;
	// zero if there is none.
	lost [slotCount]uint64
}

// newView divides the slots: each goes to the member that has the highest score
// for it, and is inherited by the second. So a member that comes or goes moves
// no slot between two others, and what it leaves goes to the heirs.
func newView(epoch, revision uint64, members, leaving []string) *view {
	v := &view{epoch: epoch, revision: revision, members: members, leaving: leaving}
	hashes := make([]uint64, len(members))
	for i, id := range members {
		sum := sha256.Sum256([]byte(id))
		hashes[i] = binary.LittleEndian.Uint64(sum[:])
	}
	for s := range slotCount {
		owner, heir := nobody, nobody
		var first, second uint64
		for i, h := range hashes {
			switch score := mix(h + uint64(s)*0x9e3779b97f4a7c15); {
			case owner == nobody || score > first:
				owner, heir, first, second = i, owner, score, first
			case heir == nobody || score > second:
				heir, second = i, score
			}
		}
		v.owners[s], v.heirs[s] = int16(owner), int16(heir)
	}
	return v
}

// mix spreads every bit over all (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// index is that of a member, or nobody.
func (v *view) index(id string) int { return slices.Index(v.members, id) }

// owner is the id of a slot's owner, or empty.
func (v *view) owner(slot int) string { return v.name(v.owners[slot]) }

// heir is the id of a slot's heir, or empty.
func (v *view) heir(slot int) string { return v.name(v.heirs[slot]) }

func (v *view) name(i int16) string {
	if i == nobody {
		return ""
	}
	return v.members[i]
}

// all are those who have to follow the view.
func (v *view) all() []string { return slices.Concat(v.members, v.leaving) }

// others are all but one.
func (v *view) others(id string) []string {
	return slices.DeleteFunc(v.all(), func(other string) bool { return other == id })
}
