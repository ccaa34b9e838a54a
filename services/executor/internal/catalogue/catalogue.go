// Package catalogue knows what there is to call and to read, and which replicas
// can be asked for it.
//
// It follows the announcements on the bus. A tool service is described by its
// descriptors; a server named in the configuration is asked for them by
// reflection; a provider tells by itself what it has, and a watch is held open
// to each of its replicas. One service never takes a name from another, and a
// replica that describes what it has differently from the running ones waits
// until they are gone: a tool changes at one moment, for everybody. Whoever was
// granted a call of what it was a moment ago still gets that.
//
// What is lost with the bus is only news: the catalogue stays as it was.
package catalogue

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/isolate"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
)

// Conn is a connection to one replica.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// Static is a server named in the configuration.
type Static struct {
	Name    string
	Address string
	// Provider servers tell by themselves what they have; others are asked by
	// reflection.
	Provider bool
}

// Hold says which tools must not be used as they are offered now.
type Hold interface {
	// Judge reports whether a tool is to be withheld. It must return at once, and
	// decides nothing.
	Judge(Offer) (withheld bool)
	// Use says that a tool is offered to callers, unless Judge withholds it. It
	// must return at once.
	Use(Offer)
	// Changed returns a channel that tells, by a value or by being closed, when
	// verdicts may have become others than they were when Changed was called.
	Changed() <-chan struct{}
}

// Options are what a catalogue is made of.
type Options struct {
	// Dial returns a lazy connection to a service at an address; what is there
	// must prove to be that service. It must not be nil.
	Dial func(service, address string) (Conn, error)
	// Static servers are asked for what they have again and again.
	Static []Static
	// Joining says by which names services are known, and what their tools are to
	// be taken for, by service.
	Joining map[string]joining.Config
	// Hold may be nil: then nothing is withheld.
	Hold Hold
	// Refresh is how often a server is asked by reflection.
	Refresh time.Duration
	// Health is how often replicas are asked how they are.
	Health time.Duration
	// Isolate says how much one service may cost.
	Isolate isolate.Config
	// Log may be nil.
	Log *slog.Logger
	// Refused counts what was not taken in, by reason. It may be nil.
	Refused metric.Int64Counter
}

// Catalogue is what there is. It is safe for concurrent use.
type Catalogue struct {
	opts    Options
	log     *slog.Logger
	check   *rules.Checker // of what providers say
	loaded  atomic.Bool
	current atomic.Pointer[Snapshot]
	tasks   sync.WaitGroup
	news    listeners

	mu       sync.Mutex
	services map[string]*service
	sequence int                          // of members and services, in order of arrival
	owners   map[string]map[string]string // by kind, name to the service that has it
	refused  map[string]bool              // what was not taken in: told once
	closed   bool
}

// New returns an empty catalogue.
func New(o Options) (*Catalogue, error) {
	check, err := provider.NewChecker()
	if err != nil {
		return nil, err
	}
	c := &Catalogue{
		opts: o, log: o.Log, check: check,
		services: make(map[string]*service),
		owners:   make(map[string]map[string]string),
		refused:  make(map[string]bool),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.current.Store(newSnapshot(contents{}))
	return c, nil
}

// Checker returns the rules for what providers say.
func (c *Catalogue) Checker() *rules.Checker { return c.check }

// Current returns what there is now.
func (c *Catalogue) Current() *Snapshot { return c.current.Load() }

// Loaded returns an error until all announcements have been read once.
func (c *Catalogue) Loaded() error {
	if !c.loaded.Load() {
		return errors.New("the announcements of tool services have not been read yet")
	}
	return nil
}

// Offer is a tool as its service offers it now.
type Offer struct {
	// Name is that which the tool is known by here.
	Name    string
	Service string
	// Provider says that the service is a provider.
	Provider bool
	// Definition is the service's own but for the name.
	Definition *providerv1.ToolDefinition
	// Digest is of the definition.
	Digest []byte
	// Withheld says that the tool is not listed as it is here, and cannot be called.
	Withheld bool
}

// Offered returns all tools, sorted by name. Of one that replicas describe in
// several ways it is the definition that is withheld, if there is one: somebody
// has to decide about it.
func (c *Catalogue) Offered() []Offer { return c.Current().offers }

// refresh makes a new snapshot because a replica went down or came up, or
// because a tool is held now or no more.
func (c *Catalogue) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rebuild()
}

// heed makes a new snapshot whenever verdicts have changed.
func (c *Catalogue) heed(ctx context.Context) {
	for {
		changed := c.opts.Hold.Changed()
		c.refresh()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (c *Catalogue) refuse(log *slog.Logger, reason string, err error) {
	log.Error("refused", "reason", reason, "err", err)
	c.count(reason, 1)
}

func (c *Catalogue) count(reason string, n int) {
	if c.opts.Refused != nil {
		c.opts.Refused.Add(context.Background(), int64(n), metric.WithAttributes(attribute.String("reason", reason)))
	}
}

// maxTold is how many refusals of one kind are written to the log one by one: a
// service can have thousands.
const maxTold = 5

// refuseAll refuses many things of one kind.
func (c *Catalogue) refuseAll(log *slog.Logger, reason string, all []error) {
	for i, err := range all {
		if i == maxTold {
			log.Error("refused more", "reason", reason, "more", len(all)-i)
			c.count(reason, len(all)-i)
			return
		}
		c.refuse(log, reason, err)
	}
}
