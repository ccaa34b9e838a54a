// Package sqlquery is a tool service that runs read-only SQL queries, by
// default on the demo database.
//
// Who may query is decided elsewhere. This service makes sure that whatever the
// text of a query is, it reads only what was listed for its caller, changes
// nothing, and ends in time. The databases' own means and PostgreSQL's own parser
// do that, and no search for bad words: see the packages sqlitedb, pgguard and
// postgres beneath for what is and is not guaranteed.
package sqlquery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/pkg/demodb/dsn"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/pgguard"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/postgres"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/sqlitedb"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/statement"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/table"
)

// engine is a database that guards itself. Its errors are faults.
type engine interface {
	Query(ctx context.Context, scope access.Scope, query string, args []any) (*table.Table, error)
	Ping(ctx context.Context) error
	Close(ctx context.Context) error
}

// Service runs queries. Its methods are safe for concurrent use.
type Service struct {
	sqlqueryv1.UnimplementedSqlQueryServiceServer

	engine engine
	cfg    Config
}

// New returns a service for the database of cfg. Without one it creates the
// demo database in stateDir unless it is there.
func New(cfg Config, stateDir string) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
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
	e, err := cfg.open(db)
	if err != nil {
		return nil, err
	}
	return &Service{engine: e, cfg: cfg}, nil
}

// open returns the engine for db. It connects to nothing.
func (c Config) open(db dsn.Database) (engine, error) {
	limits := table.Limits{Rows: c.MaxRows, Bytes: c.MaxBytes}
	if db.Postgres == nil {
		if len(c.Functions) == 0 {
			c.Functions = defaultFunctions()
		}
		return sqlitedb.Open(sqlitedb.Config{
			Path:        db.SQLite,
			Functions:   c.Functions,
			Connections: c.Connections,
			MaxValue:    c.MaxValue,
			MaxSpill:    int64(c.MaxSpill),
			Limits:      limits,
		}), nil
	}
	if err := pgguard.Supported(); err != nil {
		return nil, err
	}
	return postgres.Open(postgres.Config{
		Conn:        db.Postgres,
		Connections: c.Connections,
		MaxMessage:  c.MaxBytes + c.MaxValue,
		Timeout:     c.Timeout,
		Functions:   c.Functions,
		MaxCost:     c.MaxCost,
		Limits:      limits,
	}), nil
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { sqlqueryv1.RegisterSqlQueryServiceServer(r, s) }

// Run waits for ctx to end and then closes the database.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	// Queries that still run end within their own time limit.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout+time.Second)
	defer cancel()
	if err := s.engine.Close(ctx); err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}

// Ping reports whether the database can be queried, for readiness.
func (s *Service) Ping(ctx context.Context) error { return s.engine.Ping(ctx) }

// query runs one query of a caller within the time limit.
func (s *Service) query(ctx context.Context, caller *authv1.Principal, query string, args []any) (*table.Table, error) {
	if err := checkFirst(query); err != nil {
		return nil, err
	}
	scope, err := s.cfg.scope(caller)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return s.engine.Query(ctx, scope, query, args)
}

// checkFirst refuses in plain words what is obviously no query. It fails closed,
// but the engines do not rely on it.
func checkFirst(query string) error {
	if strings.ContainsRune(query, 0) {
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_QUERY, "the query contains a NUL character")
	}
	switch first := statement.Scan(query).First; first {
	case "SELECT", "WITH", "VALUES", "TABLE":
		return nil
	case "":
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_QUERY, "the query is empty")
	default:
		const shown = 20
		if r := []rune(first); len(r) > shown {
			first = string(r[:shown]) + "…"
		}
		return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED,
			"only read queries (SELECT, or WITH … SELECT) are allowed: this one begins with %q", first)
	}
}

// ReaderSQL returns the script that a PostgreSQL superuser runs once to create
// the role that this service logs in with. A role that may do more is refused.
func ReaderSQL() string { return postgres.ReaderSQL() }
