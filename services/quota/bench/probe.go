package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

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
func (p *probe) dial(address string) (quota.Conn, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return probed{conn, p}, err
}

// probed is a connection to another node, seen by the probe.
type probed struct {
	quota.Conn

	p *probe
}

// NewStream implements [quota.Conn].
func (c probed) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := c.Conn.NewStream(ctx, desc, method, opts...)
	return probedStream{s, c.p}, err
}

type probedStream struct {
	grpc.ClientStream

	p *probe
}

// SendMsg implements [grpc.ClientStream].
func (s probedStream) SendMsg(m any) error {
	if q, ok := m.(*quotav1.ExchangeRequest); ok && q.GetRequest().GetAsks() != nil {
		s.p.asked.Add(1)
	}
	return s.ClientStream.SendMsg(m)
}

// RecvMsg implements [grpc.ClientStream].
func (s probedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if r, ok := m.(*quotav1.ExchangeResponse); ok && err == nil {
		s.p.saw(r.GetReply())
	}
	return err
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
	var all []time.Duration
	for i := 0; len(all) < some; i++ {
		before, begin := p.asked.Load(), time.Now()
		if _, err := p.svc.Check(ctx, checkOf(i%keyCount, false)); err != nil {
			return nil, err
		}
		if p.asked.Load() > before {
			all = append(all, time.Since(begin))
		}
	}
	slices.Sort(all)
	return all, nil
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
