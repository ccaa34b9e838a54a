// Package customers is a tool service that reads and deletes customer accounts,
// by default in the demo database.
//
// Deleting is what it is for: it is the example of a tool that cannot be undone.
// Who may call it, and with whose approval, is decided before a call gets here.
// This service makes sure that an account and its orders go together or not at
// all.
package customers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/pkg/demodb/dsn"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	customersv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/customers/v1"
)

// errUnknown says that no customer has the id.
var errUnknown = errors.New("no such customer")

// customer is an account with the number of its orders.
type customer struct {
	name, email, country, plan, created string
	orders                              int32
}

// store is a database of customers.
type store interface {
	get(ctx context.Context, id int32) (customer, error)
	// remove deletes a customer and its orders in one transaction, and returns
	// the number of orders.
	remove(ctx context.Context, id int32) (orders int32, err error)
	ping(ctx context.Context) error
	close(ctx context.Context) error
}

// Service looks after customer accounts. Its methods are safe for concurrent
// use.
type Service struct {
	customersv1.UnimplementedCustomersServiceServer

	log     *slog.Logger
	store   store
	timeout time.Duration
}

// New returns a service for the database of cfg. Without one it creates the
// demo database in stateDir unless it is there. A nil log discards.
func New(cfg Config, stateDir string, log *slog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	db, demo, err := dsn.Resolve(cfg.DSN, cfg.DSNFile, stateDir)
	if err != nil {
		return nil, err
	}
	if demo {
		if err := demodb.Create(context.Background(), db.SQLite); err != nil {
			return nil, err
		}
	}
	return &Service{log: log, store: open(db, cfg), timeout: cfg.Timeout}, nil
}

func open(db dsn.Database, cfg Config) store {
	if db.Postgres != nil {
		return openPostgres(db.Postgres, cfg.Connections)
	}
	return openSQLite(db.SQLite, cfg.Connections)
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { customersv1.RegisterCustomersServiceServer(r, s) }

// Run waits for ctx to end and then closes the database.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	// Calls that still run end within their own time limit.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout+time.Second)
	defer cancel()
	if err := s.store.close(ctx); err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}

// Ping reports whether the database can be reached, for readiness.
func (s *Service) Ping(ctx context.Context) error { return s.store.ping(ctx) }

// explain turns an error of the store into a fault.
func explain(ctx context.Context, id int32, err error) error {
	switch {
	case errors.Is(err, errUnknown):
		return fault.New(codes.NotFound, customersv1.Reason_REASON_CUSTOMER_UNKNOWN, "no customer has the id %d", id)
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	}
	return fault.New(codes.Unavailable, customersv1.Reason_REASON_DATABASE,
		"the database cannot be reached just now, or did not answer in time").Because(err)
}
