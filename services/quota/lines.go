package quota

import (
	"context"
	"net"
	"sync"

	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/line"
)

// lines are those that other members have opened to this one.
type lines struct {
	mu   sync.Mutex
	over bool
	ends map[net.Conn]context.CancelFunc
}

// Protocols are those that nodes speak with each other, see [app.Speaker]: lines, so
// that asks and copies need not cross NATS.
func (s *Service) Protocols() []rpc.Protocol {
	return []rpc.Protocol{{Name: line.Protocol, Allow: []string{"quota"}, Serve: s.ServeLine}}
}

// ServeLine serves a line that another member has opened, until either ends. It closes
// the connection.
func (s *Service) ServeLine(conn net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if s.cluster == nil || !s.lines.add(conn, cancel) {
		_ = conn.Close() // who has opened it does without
		return
	}
	defer s.lines.remove(conn)
	if err := line.Serve(ctx, conn, s.cluster); err != nil {
		s.rules.log.Debug("a line of another quota node has ended", "from", conn.RemoteAddr(), "err", err)
	}
}

func (l *lines) add(conn net.Conn, end context.CancelFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	if l.ends == nil {
		l.ends = make(map[net.Conn]context.CancelFunc)
	}
	l.ends[conn] = end
	return true
}

func (l *lines) remove(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ends, conn)
}

// end ends all, and all that come.
func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for _, end := range l.ends {
		end()
	}
}

// line opens lines over connections; nil if there are none.
func (p Peers) line() func(context.Context, string, string) (cluster.Line, error) {
	if p.Dial == nil {
		return nil
	}
	return func(ctx context.Context, address, id string) (cluster.Line, error) {
		conn, err := p.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		l, err := line.Open(ctx, conn, id)
		if err != nil {
			return nil, err // no line in an interface
		}
		return l, nil
	}
}
