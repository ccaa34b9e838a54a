package quota

import (
	"sync"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// replayFor is how long an answer is kept for an idempotency key.
const replayFor = time.Minute

// replayShards is the number of independent locks.
const replayShards = 16

// replays keeps the answers to checks with an idempotency key.
type replays struct {
	shards [replayShards]replayShard
}

type replayShard struct {
	mu      sync.Mutex
	most    int
	answers map[limiter.Key]*replay
	queue   []replayed // oldest first, from head
	head    int
}

// replay is one answer, or the lock to wait for it.
type replay struct {
	mu     sync.Mutex
	answer *quotav1.CheckResponse // nil if nothing could be decided
}

type replayed struct {
	key limiter.Key
	at  time.Duration
}

func newReplays(most int) *replays {
	r := new(replays)
	for i := range r.shards {
		r.shards[i].most = most / replayShards
		r.shards[i].answers = make(map[limiter.Key]*replay)
	}
	return r
}

// answer returns the answer that was given to key within the last minute, or
// else the one that decide gives. Of simultaneous repetitions only one decides,
// and the others wait.
func (r *replays) answer(now time.Duration, key limiter.Key, decide func() (*quotav1.CheckResponse, error)) (*quotav1.CheckResponse, error) {
	s := &r.shards[key.Hi%replayShards]
	p := s.replay(now, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answer != nil {
		return p.answer, nil
	}
	a, err := decide()
	p.answer = a // on an error the next one decides
	return a, err
}

// replay returns the one of a key, which it makes if need be.
func (s *replayShard) replay(now time.Duration, key limiter.Key) *replay {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now, s.most)
	p, ok := s.answers[key]
	if !ok {
		s.forget(now, s.most-1)
		p = new(replay)
		s.answers[key] = p
		s.queue = append(s.queue, replayed{key, now})
	}
	return p
}

// forget drops what is over, and the oldest if there are more than most.
func (s *replayShard) forget(now time.Duration, most int) {
	for s.head < len(s.queue) && (now-s.queue[s.head].at >= replayFor || len(s.queue)-s.head > most) {
		delete(s.answers, s.queue[s.head].key)
		s.head++
	}
	if s.head > len(s.queue)/2 { // moves each at most once on average
		s.queue = s.queue[:copy(s.queue, s.queue[s.head:])]
		s.head = 0
	}
}

// sweep forgets what is over.
func (r *replays) sweep(now time.Duration) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.forget(now, s.most)
		s.mu.Unlock()
	}
}
