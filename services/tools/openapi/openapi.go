// Package openapi is a provider of REST APIs: it reads OpenAPI documents, 3.0 to 3.2,
// and makes a tool of each operation that the configuration wants.
//
//	roles:
//	  openapi:
//	    apis:
//	      - name: pets                        # tools become pets_list_pets, …
//	        url: https://api.example.com/openapi.yaml
//	        base_url: https://api.example.com/v1
//	        operations: {named: [createPet]}  # besides those of GET and HEAD
//	        credentials:
//	          - {kind: api_key, in: header, name: X-Api-Key, file: /run/secrets/pets}
//
// Neither a document nor an argument decides where a call goes. Requests are made by
// [internal/wire], which keeps each value in its place, and leave by
// [internal/egress], which goes to listed hosts at allowed addresses; credentials are
// added there, for one host each, and taken out of what comes back. A document is
// bounded and read by [internal/document]; what it names elsewhere is not loaded.
//
// A document that changes is read again, and one that can no longer be read changes
// nothing. What a call does (method, host, path, how arguments are written) is part of
// each tool's definition, by a digest in its _meta: the executor withholds a tool of
// which that has changed until somebody approves it.
//
// # What the package does not do
//
// It does not try again what has failed, but for what HTTP itself does over a
// connection that has died. It has no cookies between calls, passes on no
// streams (an operation that has nothing else is no tool, and an answer that turns out to
// be one is refused before it is read), and knows nothing of callbacks and links. Of
// multipart bodies it writes multipart/form-data with parts that the document names:
// texts, JSON, and files of up to 48 kB.
// Arguments are checked against the schema by the executor.
package openapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Service is the provider. Its methods are safe for concurrent use.
type Service struct {
	providerv1.UnimplementedProviderServiceServer

	cfg      Config
	log      *slog.Logger
	apis     []*api                    // in the order of the configuration
	merging  sync.Mutex                // one merge at a time
	known    atomic.Pointer[catalogue] // what there is
	listed   atomic.Pointer[catalogue] // what was told last, by which calls are made
	watchers watchers
}

// New returns a provider of the APIs of cfg. It reads no document before Run. version
// is ours, for them; a nil log discards.
func New(cfg Config, version string, log *slog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, log: log}
	for _, c := range cfg.APIs {
		a, err := newAPI(c.filled(), version, log.With("api", c.Name))
		if err != nil {
			return nil, fmt.Errorf("apis.%s: %w", c.Name, err)
		}
		s.apis = append(s.apis, a)
	}
	s.known.Store(merge(nil, log))
	s.listed.Store(s.known.Load())
	return s, nil
}

// Register implements [app.Service].
func (s *Service) Register(r grpc.ServiceRegistrar) {
	providerv1.RegisterProviderServiceServer(r, s)
}

// Run reads the documents, now and whenever they have changed, until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, a := range s.apis {
		running.Go(func() {
			defer a.client.CloseIdleConnections()
			a.follow(ctx, s.cfg.CheckEvery, s.changed)
		})
	}
	running.Wait()
	return nil
}

// changed merges again, after an API has other tools, and tells those who watch.
func (s *Service) changed() {
	s.merging.Lock()
	defer s.merging.Unlock()
	next := merge(s.apis, s.log)
	if last := s.known.Swap(next); next.differs(last) {
		s.watchers.tell()
	}
}

// Bounds on all APIs together: of the contract, and of one message.
const (
	maxListed      = 10000
	maxListedBytes = 12 << 20
)

// catalogue is what all APIs have together. It is never changed.
type catalogue struct {
	definitions []*providerv1.ToolDefinition
	tools       map[string]*tool
}

// merge puts together what APIs offer, in their order. What is beyond the bounds is
// left out.
func merge(apis []*api, log *slog.Logger) *catalogue {
	c := &catalogue{tools: map[string]*tool{}}
	size, left := 0, 0
	for _, a := range apis {
		offer := a.offer.Load()
		if offer == nil {
			continue
		}
		for _, t := range *offer {
			name := t.definition.GetName()
			bytes := proto.Size(t.definition)
			switch {
			case c.tools[name] != nil:
				log.Error("two APIs have a tool of the same name; that of the first in the configuration is taken", "api", a.cfg.Name, "tool", name)
			case len(c.definitions) == maxListed || size+bytes > maxListedBytes:
				left++
			default:
				size += bytes
				c.tools[name] = t
				c.definitions = append(c.definitions, t.definition)
			}
		}
	}
	if left > 0 {
		log.Warn("the APIs together have more than can be offered", "left_out", left)
	}
	return c
}

func (c *catalogue) differs(last *catalogue) bool {
	if len(c.definitions) != len(last.definitions) {
		return true
	}
	for i, d := range c.definitions {
		if !proto.Equal(d, last.definitions[i]) {
			return true
		}
	}
	return false
}

// down is the fault for an API that cannot be reached.
func down(cause error) *fault.Error {
	return fault.New(codes.Unavailable, providerv1.Reason_REASON_UPSTREAM,
		"The API behind this cannot be reached just now; it may work later.").Because(cause)
}

func unknown(what string) error {
	return fault.New(codes.NotFound, providerv1.Reason_REASON_UNKNOWN, "There is no such %s.", what)
}

var errBusy = errors.New("as many calls as there may be are in flight")
