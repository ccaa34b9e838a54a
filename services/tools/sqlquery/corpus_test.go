package sqlquery_test

import (
	"bufio"
	"compress/gzip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

// lines returns those of a compressed file of testdata.
func lines(t testing.TB, name string) []string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for s := bufio.NewScanner(z); s.Scan(); {
		out = append(out, s.Text())
	}
	if len(out) < 100 {
		t.Fatalf("%s has %d lines", name, len(out))
	}
	return out
}

// places are queries with a gap that a careless program would fill with text.
var places = []string{
	"%", "SELECT name FROM customers WHERE id = %", "SELECT name FROM customers WHERE name = '%'",
	`SELECT name FROM customers WHERE (name = "%")`, "SELECT % FROM orders", "SELECT name FROM customers ORDER BY %",
}

// tables and columns are what attackers hope to find, which the forbidden table
// stands for.
var (
	tables  = regexp.MustCompile(`(?i)\b(users?|admins?|members?|accounts?|dual|login|[\w.]*user[\w.]*|(information_schema|mysql|sys)\.\w+)\b`)
	columns = regexp.MustCompile(`(?i)\b(pass(word|wd)?|user_?name|table_name|column_name|version\(\)|load_file\([^)]*\))`)
)

// attack runs each line in some of the places, also aimed at the forbidden table. Whatever it is, it is answered or refused
// for a reason that is a query's, with no more than the limits allow and nothing
// of the forbidden table.
func attack(t *testing.T, client sqlqueryv1.SqlQueryServiceClient, cfg sqlquery.Config) {
	t.Helper()
	queries := make(chan string)
	var workers sync.WaitGroup
	var mu sync.Mutex
	count := make(map[codes.Code]int)
	for range cfg.Connections {
		workers.Go(func() {
			for query := range queries {
				got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: query})
				mu.Lock()
				count[status.Code(err)]++
				mu.Unlock()
				switch status.Code(err) {
				case codes.OK, codes.InvalidArgument, codes.PermissionDenied, codes.ResourceExhausted, codes.DeadlineExceeded:
				default:
					t.Errorf("%q: got error %v", query, err)
				}
				if len(got.GetRows()) > cfg.MaxRows {
					t.Errorf("%q: got %d rows", query, len(got.GetRows()))
				}
				if text := got.String(); strings.Contains(text, "s3cret") && !strings.Contains(query, "s3cret") {
					t.Errorf("%q read the forbidden table", query)
				}
			}
		})
	}
	all := lines(t, "attacks.txt.gz")
	for _, line := range all {
		if aimed := columns.ReplaceAllString(tables.ReplaceAllString(line, "salaries"), "secret"); aimed != line {
			all = append(all, aimed)
		}
	}
	for i, line := range all {
		for k := range 2 { // in two places each, for the time that all would take
			place := places[(i+k*len(places)/2)%len(places)]
			if q := strings.Replace(place, "%", line, 1); len(q) <= 10_000 && strings.ToValidUTF8(q, "") == q {
				queries <- q
			}
		}
	}
	close(queries)
	workers.Wait()
	t.Logf("answers: %v", count)
	if count[codes.OK] == 0 || count[codes.PermissionDenied] == 0 {
		t.Errorf("got %v, which cannot be: nothing was tried", count)
	}
}

// corpusConfig has limits that attacks can meet.
func corpusConfig() sqlquery.Config {
	cfg := sqlquery.DefaultConfig()
	cfg.MaxRows = 50
	cfg.Timeout = time.Second
	return cfg
}

func TestAttacks(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	before := d.state(t)
	cfg := corpusConfig()
	attack(t, serve(t, cfg, d.dir), cfg)
	if after := d.state(t); len(after) != len(before) {
		t.Errorf("files changed: %v, then %v", before, after)
	} else {
		for name, sum := range before {
			if after[name] != sum {
				t.Errorf("%s has changed", name)
			}
		}
	}
}

// What looks like an attack to one who searches for bad words, as a value in
// the text and as a bound one.
func TestLookalikes(t *testing.T) {
	t.Parallel()
	cfg := sqlquery.DefaultConfig()
	cfg.Timeout = time.Minute
	client := serve(t, cfg, newDatabase(t).dir)
	lookalikes(t, client, "?")
}

func lookalikes(t *testing.T, client sqlqueryv1.SqlQueryServiceClient, placeholder string) {
	t.Helper()
	for _, line := range lines(t, "lookalikes.txt.gz") {
		query := "SELECT count(*), '" + strings.ReplaceAll(line, "'", "''") + "' FROM customers WHERE name = " + placeholder
		got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: query, Parameters: values(t, line)})
		want{rows: [][]any{{0.0, line}}}.check(t, got, err)
	}
}
