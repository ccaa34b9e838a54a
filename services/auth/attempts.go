package auth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
)

// BruteForce limits failed authentications, in each process of this role for
// itself. Beyond a limit a credential that is not good is answered with a time to
// wait and recorded in sum. One that is good is always taken: nobody can lock out
// those who share his address, or the holder of a key whose id he has seen. That
// is safe because a secret of 256 bits cannot be guessed; the limits are against
// the noise and the cost of trying. The exception are opaque tokens, which an issuer
// has to be asked about: beyond the limit on an address it is asked about those alone
// that have been good before, and others are told to wait.
type BruteForce struct {
	// Window is the time in which failures count together; it begins with the
	// first. What is limited is so until its end.
	Window time.Duration `yaml:"window"`
	// PerAddress is how many failures of one address (of one /64, with IPv6) are
	// answered in full; 0 means all.
	PerAddress int `yaml:"per_address"`
	// PerKey is the same with one key id, from anywhere.
	PerKey int `yaml:"per_key"`
}

// DefaultBruteForce returns the values that hold where the file is silent.
func DefaultBruteForce() BruteForce {
	return BruteForce{Window: time.Minute, PerAddress: 30, PerKey: 100}
}

const maxPerWindow = 1_000_000

func (b BruteForce) validate() error {
	var errs []error
	if b.Window < time.Second || b.Window > time.Hour {
		errs = append(errs, fmt.Errorf("brute_force.window: %v is not between 1s and 1h", b.Window))
	}
	for _, limit := range []struct {
		name  string
		value int
	}{{"per_address", b.PerAddress}, {"per_key", b.PerKey}} {
		if limit.value < 0 || limit.value > maxPerWindow {
			errs = append(errs, fmt.Errorf("brute_force.%s: %d is not between 0 (no limit) and %d", limit.name, limit.value, maxPerWindow))
		}
	}
	return errors.Join(errs...)
}

// counters is how many counters there are of each kind. Addresses that fall on one
// share it: with endless addresses nothing grows, and the worst is that a credential
// which is not good is answered with a time to wait too early.
const counters = 1 << 15

// countBits of a counter are the count, those above them are when its window began.
const countBits = 24

// attempts counts failed authentications. Its methods are safe for concurrent use.
//
// Key ids count as they were presented, whether there is such a key or not: else
// the answer would tell.
type attempts struct {
	cfg       BruteForce
	seed      maphash.Seed // so that nobody can choose with whom he shares a counter
	start     time.Time
	addresses []atomic.Uint64
	keys      []atomic.Uint64
}

func newAttempts(cfg BruteForce) *attempts {
	return &attempts{
		cfg: cfg, seed: maphash.MakeSeed(), start: time.Now(),
		addresses: make([]atomic.Uint64, counters), keys: make([]atomic.Uint64, counters),
	}
}

// add counts a failure, and returns how long to wait where there were too many.
// The id is empty where no key was presented.
func (a *attempts) add(now time.Time, address, id string) time.Duration {
	wait := a.count(a.ofAddress(address), a.cfg.PerAddress, now)
	if id != "" {
		wait = max(wait, a.count(a.ofKey(id), a.cfg.PerKey, now))
	}
	return wait
}

// fromAddress reports whether there were as many failures of an address as are
// answered in full.
func (a *attempts) fromAddress(now time.Time, address string) bool {
	return a.full(a.ofAddress(address), a.cfg.PerAddress, now)
}

// withKey is the same with a key id; without one there were none.
func (a *attempts) withKey(now time.Time, id string) bool {
	return id != "" && a.full(a.ofKey(id), a.cfg.PerKey, now)
}

func (a *attempts) full(counter *atomic.Uint64, limit int, now time.Time) bool {
	n, left := a.read(counter.Load(), now)
	return limit > 0 && left > 0 && n >= limit
}

// count adds one to a counter, up to one more than the limit: an attacker at his
// limit writes to nothing that others read.
func (a *attempts) count(counter *atomic.Uint64, limit int, now time.Time) time.Duration {
	if limit == 0 {
		return 0
	}
	for {
		value := counter.Load()
		n, left := a.read(value, now)
		if n > limit {
			return left
		}
		next := value + 1
		if left == 0 {
			next, left = uint64(max(0, now.Sub(a.start).Milliseconds()))<<countBits|1, a.cfg.Window
		}
		if counter.CompareAndSwap(value, next) {
			if n++; n > limit {
				return left
			}
			return 0
		}
	}
}

// read returns what a counter holds: how many failures, and how much is left of
// their window. Both are zero where it is over.
func (a *attempts) read(value uint64, now time.Time) (n int, left time.Duration) {
	if value == 0 {
		return 0, 0
	}
	left = a.start.Add(time.Duration(value>>countBits)*time.Millisecond + a.cfg.Window).Sub(now)
	if left <= 0 {
		return 0, 0
	}
	return int(value & (1<<countBits - 1)), left
}

// ofAddress returns the counter of an address; where there is none or it cannot be
// read, that of all such.
func (a *attempts) ofAddress(address string) *atomic.Uint64 {
	var prefix [8]byte // what one customer has: an IPv4 address, or a /64
	if ip, err := netip.ParseAddr(address); err == nil {
		if ip = ip.Unmap(); ip.Is4() {
			bytes := ip.As4()
			binary.BigEndian.PutUint32(prefix[:], binary.BigEndian.Uint32(bytes[:]))
		} else {
			bytes := ip.As16()
			copy(prefix[:], bytes[:])
		}
	}
	return &a.addresses[maphash.Bytes(a.seed, prefix[:])%counters]
}

func (a *attempts) ofKey(id string) *atomic.Uint64 {
	return &a.keys[maphash.String(a.seed, id)%counters]
}

// presented is what all requests with a credential have.
type presented interface {
	GetCredential() *authv1.Credential
	GetOrigin() *authv1.Origin
}

// countFailure counts a credential that is not good, and returns how long to wait
// where there were too many. An error is none: then it is not known what it is.
func (s *Service) countFailure(req presented, why refused, err error, now time.Time) *durationpb.Duration {
	if err != nil || why.genuine {
		return nil
	}
	token, _ := apikey.Parse(req.GetCredential().GetToken()) // what is no key has no id
	if wait := s.attempts.add(now, req.GetOrigin().GetAddress(), token.ID); wait > 0 {
		return durationpb.New(wait)
	}
	return nil
}
