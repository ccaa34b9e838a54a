package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
)

// probe is the wire of a member, and sees what goes over it.
type probe struct {
	cluster.Wire
	svc    *quota.Service
	asked  atomic.Int64 // asks that were sent
	copied chan time.Time
}

// Ask implements [cluster.Wire].
func (p *probe) Ask(ctx context.Context, subject string, q *quotav1.ClusterRequest) (*quotav1.ClusterReply, error) {
	if strings.HasPrefix(subject, bus.SubjectQuotaAsks) {
		p.asked.Add(1)
	}
	reply, err := p.Wire.Ask(ctx, subject, q)
	p.saw(reply)
	return reply, err
}

func (p *probe) saw(reply *quotav1.ClusterReply) {
	if reply.GetCopy().GetTaken() {
		select {
		case p.copied <- time.Now():
		default: // nobody wants to know
		}
	}
}

// dial makes connections to other nodes without TLS, as all of the bench's are.
func (p *probe) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return probed{conn.(*net.TCPConn), p}, nil
}

// probed is a connection to another node, seen by the probe. Each message is written
// at once, after four bytes of its length.
type probed struct {
	*net.TCPConn

	p *probe
}

const head = 4

// Write implements [net.Conn].
func (c probed) Write(b []byte) (int, error) {
	const asks = 1<<3 | 2 // the tag of what a request of asks begins with
	if len(b) > head && b[head] == asks {
		c.p.asked.Add(1)
	}
	return c.TCPConn.Write(b)
}

// Read implements [net.Conn].
func (c probed) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	var reply quotav1.ClusterReply
	if small := n > head && n < 64; small && proto.Unmarshal(b[head:n], &reply) == nil { // as those about copies are
		c.p.saw(&reply)
	}
	return n, err
}

// handle adds what this process measures of itself, while nobody else uses the
// node.
func (p *probe) handle(mux *http.ServeMux) {
	p.copied = make(chan time.Time)
	for path, measure := range map[string]func(context.Context) (any, error){
		"/ready":     func(ctx context.Context) (any, error) { return true, p.svc.Ready(ctx) },
		"/owned":     func(ctx context.Context) (any, error) { return p.owned(ctx) },
		"/forwarded": func(ctx context.Context) (any, error) { return p.forwarded(ctx) },
		"/copies":    func(ctx context.Context) (any, error) { return p.copies(ctx) },
	} {
		answer(mux, path, measure)
	}
}

// answer tells under a path what is measured when it is asked for.
func answer(mux *http.ServeMux, path string, measure func(context.Context) (any, error)) {
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		got, err := measure(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(got) // the reader will see
	})
}

// owned tells which of the keys this node owns.
func (p *probe) owned(ctx context.Context) ([]int, error) {
	owned := []int{}
	for i := range keyCount {
		before := p.asked.Load()
		if _, err := p.svc.Check(ctx, checkOf(i, false)); err != nil {
			return nil, err
		}
		if p.asked.Load() == before {
			owned = append(owned, i)
		}
	}
	return owned, nil
}

// some is how many times a latency is measured.
const some = 5000

// forwarded tells how long checks of keys of other nodes take, sorted.
func (p *probe) forwarded(ctx context.Context) ([]time.Duration, error) {
	owned, err := p.owned(ctx)
	if err != nil {
		return nil, err
	}
	var others []*quotav1.CheckRequest
	for i := range keyCount {
		if _, mine := slices.BinarySearch(owned, i); !mine {
			others = append(others, checkOf(i, false))
		}
	}
	return timed(func(i int) error {
		_, err := p.svc.Check(ctx, others[i%len(others)])
		return err
	})
}

// copies tells how soon after an admission the heir has acknowledged it, sorted.
func (p *probe) copies(ctx context.Context) ([]time.Duration, error) {
	var all []time.Duration
	for i := 0; len(all) < some/5; i++ {
		before, begin := p.asked.Load(), time.Now()
		if _, err := p.svc.Check(ctx, checkOf(i%keyCount, false)); err != nil {
			return nil, err
		}
		if p.asked.Load() > before {
			continue // another copies it
		}
		select {
		case at := <-p.copied:
			all = append(all, at.Sub(begin))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	slices.Sort(all)
	return all, nil
}
