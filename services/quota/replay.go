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
	answers map[limiter.Key]*quotav1.CheckResponse
	queue   []replayed // oldest first, from head
	head    int
}

type replayed struct {
	key limiter.Key
	at  time.Duration
}

func newReplays(most int) *replays {
	r := new(replays)
	for i := range r.shards {
		r.shards[i].most = most / replayShards
		r.shards[i].answers = make(map[limiter.Key]*quotav1.CheckResponse)
	}
	return r
}

// answer returns the answer that was given to key within the last minute, or
// else the one that decide gives. Of simultaneous repetitions only one decides;
// decide must not take long.
func (r *replays) answer(now time.Duration, key limiter.Key, decide func() (*quotav1.CheckResponse, error)) (*quotav1.CheckResponse, error) {
	s := &r.shards[key.Hi%replayShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now, s.most)
	if a, ok := s.answers[key]; ok {
		return a, nil
	}
	a, err := decide()
	if err != nil {
		return nil, err
	}
	s.forget(now, s.most-1)
	s.answers[key] = a
	s.queue = append(s.queue, replayed{key, now})
	return a, nil
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
