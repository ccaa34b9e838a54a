package catalogue

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/isolate"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
)

// Why no replica was given out, besides those of package isolate.
var (
	ErrDown = errors.New("no replica can be reached")
	ErrGone = errors.New("the replica is gone")
)

// Pool is the replicas that can be called.
type Pool struct {
	replicas atomic.Pointer[[]*replica]
	next     atomic.Uint32
	cell     *isolate.Cell // of the service
}

// Rest returns how long the service is left alone because it fails.
func (p *Pool) Rest() time.Duration { return p.cell.Rest() }

// Available reports whether a replica is thought to be up.
func (p *Pool) Available() bool {
	for _, r := range *p.replicas.Load() {
		if r.up() {
			return true
		}
	}
	return false
}

// Take gives out replicas one after the other, first those that are up; if none
// is, any that has not said that it is not to be called, since it may be back. It waits while too many calls are in flight. The
// lease must be released.
func (p *Pool) Take(ctx context.Context) (*Lease, error) {
	seat, err := p.cell.Enter(ctx)
	if err != nil {
		return nil, err
	}
	if r := p.pick(nil); r != nil {
		return &Lease{Seat: seat, pool: p, replica: r}, nil
	}
	seat.Leave()
	return nil, ErrDown
}

// TakeFrom gives out one certain replica, up or not.
func (p *Pool) TakeFrom(ctx context.Context, id provider.ReplicaID) (*Lease, error) {
	seat, err := p.cell.Enter(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range *p.replicas.Load() {
		if r.id == id && r.acquire() {
			return &Lease{Seat: seat, pool: p, replica: r}, nil
		}
	}
	seat.Leave()
	return nil, ErrGone
}

// pick returns a replica other than not that has been acquired, or nil.
func (p *Pool) pick(not *replica) *replica {
	all := *p.replicas.Load()
	start := int(p.next.Add(1))
	for _, whichever := range []bool{false, true} {
		for i := range all {
			r := all[(start+i)%len(all)]
			if r != not && (r.up() || whichever && !r.unwell.Load()) && r.acquire() {
				return r
			}
		}
	}
	return nil
}

// Lease is the use of one replica for one call.
type Lease struct {
	*isolate.Seat

	pool    *Pool
	replica *replica
}

// Conn returns the connection to the replica.
func (l *Lease) Conn() grpc.ClientConnInterface { return l.replica.conn }

// Replica returns the id of the replica.
func (l *Lease) Replica() provider.ReplicaID { return l.replica.id }

// Other moves on to another replica, because this one cannot be reached. It
// reports false if there is none.
func (l *Lease) Other() bool {
	r := l.pool.pick(l.replica)
	if r == nil {
		return false
	}
	l.replica.release()
	l.replica = r
	return true
}

// Failed says that the replica could not be reached: it is passed over until it
// answers again.
func (l *Lease) Failed() { l.replica.fail() }

// Release ends the lease.
func (l *Lease) Release() {
	l.replica.release()
	l.Leave()
}

// replica is one process that can be called.
type replica struct {
	id        provider.ReplicaID
	conn      Conn
	down      atomic.Bool     // it did not answer
	unwell    atomic.Bool     // it says that it is not to be called
	lost      atomic.Bool     // nobody knows what it has
	ill       chan struct{}   // of one token: it did not answer a call
	ctx       context.Context // ends when the replica is retired
	cancel    context.CancelFunc
	catalogue *Catalogue

	mu      sync.Mutex
	uses    int
	retired bool
}

// newReplica returns a replica whose health is followed until it is retired. The
// caller holds the lock.
func (c *Catalogue) newReplica(ctx context.Context, conn Conn, key string) *replica {
	r := &replica{id: provider.NewReplicaID(key), conn: conn, catalogue: c, ill: make(chan struct{}, 1)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if !c.closed { // else nobody would wait for the goroutine
		c.tasks.Go(r.follow)
	}
	return r
}

// up reports whether the replica is thought to answer.
func (r *replica) up() bool { return !r.down.Load() && !r.lost.Load() && !r.unwell.Load() }

func (r *replica) acquire() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.retired {
		return false
	}
	r.uses++
	return true
}

func (r *replica) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.uses--; r.uses == 0 && r.retired {
		r.close()
	}
}

// retire closes the connection when the last call has ended.
func (r *replica) retire() {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.retired && r.uses == 0 {
		r.close()
	}
	r.retired = true
}

func (r *replica) close() {
	if err := r.conn.Close(); err != nil {
		r.catalogue.log.Warn("close connection", "err", err)
	}
}

// pause waits for about d. It reports false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(about(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// about returns a time around d, so that many do not do the same at once.
func about(d time.Duration) time.Duration { return d/2 + rand.N(d) }
