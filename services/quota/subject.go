package quota

import (
	"hash/maphash"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// hasher turns bytes into 128 bits with two secret seeds of this process, or with
// the seed of the cluster, so that nobody outside can choose values that meet in
// one count or crowd one part of the table.
type hasher struct {
	hi, lo  maphash.Seed
	cluster *cluster.Node
}

func newHasher() hasher { return hasher{hi: maphash.MakeSeed(), lo: maphash.MakeSeed()} }

// key fails if the node does not know the seed of its cluster yet.
func (h *hasher) key(b []byte) (limiter.Key, error) {
	if h.cluster != nil {
		return h.cluster.Key(b)
	}
	return limiter.Key{Hi: maphash.Bytes(h.hi, b), Lo: maphash.Bytes(h.lo, b)}, nil
}

// subject reads each attribute, and hashes each key, once per check. It is meant
// to stay on the stack.
type subject struct {
	plan   *plan
	hash   *hasher
	attrs  map[string]string
	loaded uint64 // values that are there, a bit each
	values [maxAttributes]string
	hashed uint64 // keys that are there, a bit each
	hashes [8]limiter.Key
}

func (s *subject) value(attribute int) string {
	if bit := uint64(1) << attribute; s.loaded&bit == 0 {
		s.loaded |= bit
		s.values[attribute] = s.attrs[s.plan.attributes[attribute]]
	}
	return s.values[attribute]
}

func (s *subject) meets(when []condition) bool {
	for i := range when {
		if !when[i].set.Match(s.value(when[i].attribute)) {
			return false
		}
	}
	return true
}

// key is the hash of what a rule counts by. It fails if an attribute is
// malformed.
func (s *subject) key(number int) (limiter.Key, error) {
	if number < len(s.hashes) && s.hashed>>number&1 == 1 {
		return s.hashes[number], nil
	}
	var buf [256]byte
	text := buf[:0]
	for _, f := range s.plan.keys[number] {
		var err error
		if text, err = f.Append(text, s.value(f.attribute)); err != nil {
			return limiter.Key{}, fault.New(codes.InvalidArgument, quotav1.Reason_REASON_ATTRIBUTE,
				"attribute %q is %v", f.Attribute, err)
		}
	}
	k, err := s.hash.key(text)
	if err != nil {
		return limiter.Key{}, failure(err)
	}
	if number < len(s.hashes) {
		s.hashes[number] = k
		s.hashed |= 1 << number
	}
	return k, nil
}

// terms are those of a rule for this caller.
func (s *subject) terms(r *rule) *terms {
	for i := range r.overrides {
		if s.meets(r.overrides[i].when) {
			return &r.overrides[i].terms
		}
	}
	return &r.terms
}

// sort is one of the two sorts of bounds.
type sort int

const (
	rates sort = iota
	permits
)

// appendAsks adds an ask for each bound that matches, in the order of the
// configuration.
func (s *subject) appendAsks(asks []limiter.Ask, which sort, cost uint32) ([]limiter.Ask, error) {
	for _, c := range s.plan.index.at(s.attrs["action"], s.attrs["tool"]) {
		if !s.meets(c.when) {
			continue
		}
		t := s.terms(c.rule)
		numbers := t.rates
		if which == permits {
			numbers = t.permit
		}
		if len(numbers) == 0 {
			continue
		}
		key, err := s.key(c.key)
		if err != nil {
			if c.shadow {
				continue // it must not refuse
			}
			return nil, err
		}
		ask := limiter.Ask{Key: key, Cost: cost}
		if c.costOne {
			ask.Cost = 1
		}
		for _, n := range numbers {
			ask.Limit = n
			asks = append(asks, ask)
		}
	}
	return asks, nil
}
