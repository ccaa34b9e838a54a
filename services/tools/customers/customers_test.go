package customers_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	customersv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/customers/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/tools/customers"
)

// fixture is a demo database of its own, served, with a second way to look at
// it and to change it.
type fixture struct {
	client customersv1.CustomersServiceClient
	exec   func(t *testing.T, script string)
	count  func(t *testing.T, query string) int
	// fails makes every deletion of a customer fail.
	fails string
}

func serve(t *testing.T, cfg customers.Config, dir string) customersv1.CustomersServiceClient {
	t.Helper()
	s, err := customers.New(cfg, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	if err := s.Ping(t.Context()); err != nil {
		t.Fatalf("Ping: %v", err)
	}
	return customersv1.NewCustomersServiceClient(rpctest.Serve(t, s.Register))
}

func onSQLite(t *testing.T) fixture {
	t.Helper()
	dir := t.TempDir()
	client := serve(t, customers.DefaultConfig(), dir)
	db := sql.OpenDB(demodb.Connector(demodb.File(dir), "_busy_timeout=5000"))
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return fixture{
		client: client,
		exec: func(t *testing.T, script string) {
			t.Helper()
			if _, err := db.ExecContext(t.Context(), script); err != nil {
				t.Fatal(err)
			}
		},
		count: func(t *testing.T, query string) (n int) {
			t.Helper()
			if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		},
		fails: "CREATE TRIGGER fails BEFORE DELETE ON customers BEGIN SELECT raise(ABORT, 'no'); END",
	}
}

const (
	allCustomers = "SELECT count(*) FROM customers"
	allOrders    = "SELECT count(*) FROM orders"
	ordersOf1    = "SELECT count(*) FROM orders WHERE customer_id = 1"
)

func isFault(t *testing.T, err error, code codes.Code, reason fault.Reason) {
	t.Helper()
	if status.Code(err) != code || !fault.Is(err, reason) {
		t.Errorf("got error %v, want code %v and reason %v", err, code, reason)
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	testStore(t, onSQLite)
}

// testStore holds what every database must do.
func testStore(t *testing.T, start func(*testing.T) fixture) {
	unknown := customersv1.Reason_REASON_CUSTOMER_UNKNOWN
	down := customersv1.Reason_REASON_DATABASE
	f := start(t)

	// In this order: the last cases change the database.
	t.Run("an account is read with the number of its orders", func(t *testing.T) {
		got, err := f.client.GetCustomer(t.Context(), &customersv1.GetCustomerRequest{CustomerId: 1})
		if err != nil {
			t.Fatal(err)
		}
		want := &customersv1.GetCustomerResponse{
			CustomerId: 1, Name: "Ada Lindqvist", Email: "ada.lindqvist@example.com", Country: "SE", Plan: got.GetPlan(),
			Created: "2023-04-03", Orders: int32(f.count(t, ordersOf1)),
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("GetCustomer (-want +got):\n%s", diff)
		}
	})
	t.Run("nobody has an unknown id", func(t *testing.T) {
		_, err := f.client.GetCustomer(t.Context(), &customersv1.GetCustomerRequest{CustomerId: 999})
		isFault(t, err, codes.NotFound, unknown)
		_, err = f.client.DeleteCustomerAccount(t.Context(), &customersv1.DeleteCustomerAccountRequest{CustomerId: 999})
		isFault(t, err, codes.NotFound, unknown)
	})
	t.Run("an id that cannot be is refused before", func(t *testing.T) {
		_, err := f.client.DeleteCustomerAccount(t.Context(), &customersv1.DeleteCustomerAccountRequest{})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("got error %v, want InvalidArgument", err)
		}
	})
	t.Run("a call that was cancelled changes nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := f.client.DeleteCustomerAccount(ctx, &customersv1.DeleteCustomerAccountRequest{CustomerId: 1})
		if err == nil {
			t.Error("got no error")
		}
		if n := f.count(t, allCustomers); n != 50 {
			t.Errorf("got %d customers, want 50", n)
		}
	})
	t.Run("a deletion goes with all orders and only those", func(t *testing.T) {
		had, all := f.count(t, ordersOf1), f.count(t, allOrders)
		if had == 0 {
			t.Fatal("the customer has no orders, which proves nothing")
		}
		got, err := f.client.DeleteCustomerAccount(t.Context(), &customersv1.DeleteCustomerAccountRequest{CustomerId: 1, Reason: "asked for it"})
		if err != nil {
			t.Fatal(err)
		}
		want := &customersv1.DeleteCustomerAccountResponse{CustomerId: 1, Deleted: true, OrdersDeleted: int32(had)}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("DeleteCustomerAccount (-want +got):\n%s", diff)
		}
		if c, o := f.count(t, allCustomers), f.count(t, allOrders); c != 49 || o != all-had {
			t.Errorf("got %d customers and %d orders, want 49 and %d", c, o, all-had)
		}
		_, err = f.client.GetCustomer(t.Context(), &customersv1.GetCustomerRequest{CustomerId: 1})
		isFault(t, err, codes.NotFound, unknown)
		_, err = f.client.DeleteCustomerAccount(t.Context(), &customersv1.DeleteCustomerAccountRequest{CustomerId: 1})
		isFault(t, err, codes.NotFound, unknown)
	})
	t.Run("of many deletions at once one succeeds", func(t *testing.T) {
		var wg sync.WaitGroup
		outcomes := make(chan error, 6)
		for range cap(outcomes) {
			wg.Go(func() {
				_, err := f.client.DeleteCustomerAccount(t.Context(), &customersv1.DeleteCustomerAccountRequest{CustomerId: 2})
				outcomes <- err
			})
		}
		wg.Wait()
		close(outcomes)
		succeeded := 0
		for err := range outcomes {
			if err == nil {
				succeeded++
				continue
			}
			isFault(t, err, codes.NotFound, unknown)
		}
		if succeeded != 1 {
			t.Errorf("%d deletions succeeded, want 1", succeeded)
		}
	})
	t.Run("a deletion that fails half-way changes nothing", func(t *testing.T) {
		c, o := f.count(t, allCustomers), f.count(t, allOrders)
		f.exec(t, f.fails)
		_, err := f.client.DeleteCustomerAccount(t.Context(), &customersv1.DeleteCustomerAccountRequest{CustomerId: 3})
		isFault(t, err, codes.Unavailable, down)
		if gotC, gotO := f.count(t, allCustomers), f.count(t, allOrders); gotC != c || gotO != o {
			t.Errorf("got %d customers and %d orders, want %d and %d as before", gotC, gotO, c, o)
		}
	})
}

// TestReaderInAnotherProcess is about the journal of the SQLite file: a
// connection that is read-only, as that of sqlquery, sees what was deleted, and
// while it reads a deletion waits, at most until its deadline.
func TestReaderInAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := customers.DefaultConfig()
	cfg.Timeout = time.Second
	client := serve(t, cfg, dir)
	reader := sql.OpenDB(demodb.Connector(demodb.File(dir), "mode=ro&_query_only=1"))
	t.Cleanup(func() {
		if err := reader.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	reading, err := reader.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	count := func(q interface {
		QueryRowContext(context.Context, string, ...any) *sql.Row
	},
	) (n int) {
		t.Helper()
		if err := q.QueryRowContext(t.Context(), allCustomers).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(reading); n != 50 {
		t.Fatalf("got %d customers, want 50", n)
	}

	req := &customersv1.DeleteCustomerAccountRequest{CustomerId: 1}
	_, err = client.DeleteCustomerAccount(t.Context(), req)
	isFault(t, err, codes.Unavailable, customersv1.Reason_REASON_DATABASE)
	if n := count(reading); n != 50 {
		t.Errorf("got %d customers after a deletion that timed out, want 50", n)
	}
	if err := reading.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteCustomerAccount(t.Context(), req); err != nil {
		t.Fatalf("a deletion after the reader is done: %v", err)
	}
	if n := count(reader); n != 49 {
		t.Errorf("the reader sees %d customers, want 49", n)
	}
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"sqlite:" + t.TempDir() + "/none.db", "postgres://x@127.0.0.1:1/x"} {
		cfg := customers.DefaultConfig()
		cfg.DSN = dsn
		s, err := customers.New(cfg, t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Ping(t.Context()); err == nil {
			t.Errorf("%s: Ping succeeds", dsn)
		}
		client := customersv1.NewCustomersServiceClient(rpctest.Serve(t, s.Register))
		_, err = client.GetCustomer(t.Context(), &customersv1.GetCustomerRequest{CustomerId: 1})
		isFault(t, err, codes.Unavailable, customersv1.Reason_REASON_DATABASE)
		if strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "none.db") {
			t.Errorf("the error shows where the database is: %v", err)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := customers.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	err := customers.Config{DSN: "mysql://x", Timeout: -1, Connections: 1000}.Validate()
	for _, want := range []string{"dsn", "timeout", "connections"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate: got %v, want a mistake about %s", err, want)
		}
	}
}
