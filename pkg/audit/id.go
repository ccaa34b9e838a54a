package audit

import (
	"math/rand/v2"
	"time"
)

// crockford is the alphabet of Crockford's base 32, without I, L, O and U.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewID returns a ULID: 26 characters that sort by the time they were made.
//
// The first 48 bits are milliseconds, as in any ULID. Of the 80 bits that are
// random in others the first 20 are the nanoseconds within the millisecond, so
// ids made one after the other sort in that order without any state or lock.
// The other 60 are random.
func NewID() string {
	return string(appendID(make([]byte, 0, 26), time.Now()))
}

// NewDecisionID returns an id for a decision: "d_" and a ULID. It names a
// decision and grants nothing, so it need not be hard to guess.
func NewDecisionID() string {
	return string(appendID(append(make([]byte, 0, 28), "d_"...), time.Now()))
}

func appendID(b []byte, t time.Time) []byte {
	nanos := uint64(t.Nanosecond() % int(time.Millisecond)) // fits 20 bits
	// The generator is ChaCha8, seeded by the system and without a lock.
	high, low := uint64(t.UnixMilli())<<16|nanos>>4, nanos<<60|rand.Uint64()>>4
	var id [26]byte
	for i := len(id) - 1; i >= 0; i-- {
		id[i] = crockford[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return append(b, id[:]...)
}
