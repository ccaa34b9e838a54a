// Package mcpbridge is a provider of what other MCP servers have: it is a client
// of each of them, over Streamable HTTP or as a child process, in either era, and
// offers their tools, resources and prompts under prefixed names.
//
//	roles:
//	  mcpbridge:
//	    upstreams:
//	      - name: everything                  # tools become everything_echo, …
//	        command: [npx, -y, "@modelcontextprotocol/server-everything", stdio]
//	        inherit: [PATH, HOME]
//	      - name: remote
//	        url: https://mcp.example.com/mcp
//	        bearer_file: /run/secrets/remote-token
//	        tools: {deny: ["delete_*"]}
//
// Each upstream has its own goroutines, sessions and bounds, so that one that is
// down, hangs or floods takes nothing from another; what is listed is what is
// known, and listing waits for nobody. Upstreams are authenticated to with
// credentials of their own. Nothing of the caller goes to them but the arguments
// and, to modern ones, which questions the caller's client can be asked.
//
// # Questions in the middle of a call
//
// A modern upstream ends a call with its questions and is called again; its state
// goes in ours and comes back. A legacy upstream asks (elicitation, sampling,
// roots) and waits. Then the call is parked: the stream ends with the question,
// and the next round, which may only come from the same principal, goes on with
// the same call. What the caller's client has not declared is declined.
//
// Over HTTP a question comes in the stream of its call. Otherwise (a child
// process, or a server that uses its stream for everything) it can be told whose
// it is only while the session has a single call; calls are therefore spread over
// the sessions there may be, and with several in one the question is declined:
// never is it shown to somebody whom it may not be meant for. In reading resources
// and prompts, legacy upstreams are not answered.
//
// # What the package does not do
//
// It does not hold definitions that change, nor judge them: the executor does.
// What an upstream says of its tools' effects is a hint of a stranger and becomes
// no option. Descriptions are passed on as they are.
package mcpbridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Service is the provider. Its methods are safe for concurrent use.
type Service struct {
	providerv1.UnimplementedProviderServiceServer

	cfg       Config
	log       *slog.Logger
	upstreams []*upstream // in the order of the configuration
	known     atomic.Pointer[catalogue]
	merging   sync.Mutex // one merge at a time
	watchers  watchers
	calls     calls
}

// New returns a provider of the upstreams of cfg. It connects to none before Run.
// version is ours, for them; a nil log discards.
func New(cfg Config, version string, log *slog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, log: log, calls: newCalls(cfg)}
	for _, u := range cfg.Upstreams {
		up, err := newUpstream(s, u.filled(), version)
		if err != nil {
			return nil, fmt.Errorf("upstreams.%s: %w", u.Name, err)
		}
		s.upstreams = append(s.upstreams, up)
	}
	s.known.Store(merge(nil, log))
	return s, nil
}

// Register implements [app.Service].
func (s *Service) Register(r grpc.ServiceRegistrar) {
	providerv1.RegisterProviderServiceServer(r, s)
}

// Run keeps up the sessions with the upstreams until ctx is done. Then calls that
// wait for answers are given up, and child processes ended.
func (s *Service) Run(ctx context.Context) error {
	sessions, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running sync.WaitGroup
	for _, u := range s.upstreams {
		running.Go(func() { u.run(sessions) })
	}
	<-ctx.Done()
	s.calls.close() // while there are sessions to tell it in
	stop()
	running.Wait()
	return nil
}

// changed merges again, after an upstream has other things to offer, and tells
// those who watch.
func (s *Service) changed() {
	s.merging.Lock()
	defer s.merging.Unlock()
	offers := make([]offered, 0, len(s.upstreams))
	for _, u := range s.upstreams {
		if o := u.offering(); o != nil {
			offers = append(offers, offered{u, o})
		}
	}
	next := merge(offers, s.log)
	last := s.known.Swap(next)
	s.watchers.tell(next.differs(last))
}

var (
	errStopping = errors.New("the process is stopping")
	errExpired  = errors.New("the question was not answered in time")
)

// down is the fault for an upstream that cannot be used.
func down(cause error) *fault.Error {
	f := fault.New(codes.Unavailable, providerv1.Reason_REASON_UPSTREAM, "The server behind this cannot be reached just now; it may work later.")
	if cause != nil {
		f = f.Because(cause)
	}
	return f
}

func unknown(what string) error {
	return fault.New(codes.NotFound, providerv1.Reason_REASON_UNKNOWN, "There is no such %s.", what)
}
