//go:build postgres

package sqlquery_test

import (
	"testing"

	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
)

func TestPostgresAttacks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	before := s.state(t)
	cfg := corpusConfig()
	cfg.DSN = s.reader
	attack(t, serve(t, cfg, t.TempDir()), cfg)
	if after := s.state(t); after != before {
		t.Errorf("the database changed: %s, then %s", before, after)
	}
}

func TestPostgresLookalikes(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(newServer(t).reader)
	lookalikes(t, serve(t, cfg, t.TempDir()), "$1")
}

// What analysts write must run: each construct that the guard lists, and the text
// that it writes in its place.
func TestPostgresAnalytics(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	cfg := postgresConfig(s.reader)
	hiding := cfg
	hiding.Hidden = []string{"customers.email"}
	plain, hidden := serve(t, cfg, t.TempDir()), serve(t, hiding, t.TempDir())
	for _, query := range []string{
		"SELECT c.country, count(*) AS n, round(sum(o.total_cents) / 100.0, 2) FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY 1 HAVING count(*) > 3 ORDER BY n DESC NULLS LAST, 1 LIMIT 5 OFFSET 1",
		"SELECT date_trunc('month', created::timestamp) AS m, sum(total_cents) FROM orders GROUP BY m ORDER BY m",
		"SELECT extract(year FROM created::date) y, count(DISTINCT customer_id) FILTER (WHERE total_cents > 1000) FROM orders GROUP BY GROUPING SETS ((1), ())",
		"SELECT id, rank() OVER (PARTITION BY category ORDER BY price_cents DESC), lag(name, 1, 'none') OVER w FROM products WINDOW w AS (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
		"WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT array_agg(i ORDER BY i DESC), string_agg(i::text, ',') FROM n",
		"WITH a AS MATERIALIZED (SELECT * FROM orders), b AS (SELECT customer_id, max(id) FROM a GROUP BY 1) SELECT * FROM b JOIN customers ON customers.id = b.customer_id",
		"SELECT c.name, last.id FROM customers c CROSS JOIN LATERAL (SELECT id FROM orders o WHERE o.customer_id = c.id ORDER BY id DESC LIMIT 1) last",
		"SELECT name FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id) AND id NOT IN (SELECT 3) AND id <> ALL (ARRAY[7, 8]) AND plan IN ('free', 'pro')",
		"SELECT DISTINCT ON (customer_id) customer_id, id FROM orders ORDER BY customer_id, id DESC",
		"SELECT id, CASE WHEN total_cents > 5000 THEN 'big' WHEN total_cents IS NULL THEN NULL ELSE 'small' END, coalesce(NULL, 1), nullif(1, 2), greatest(1, 2) FROM orders",
		"SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total_cents), mode() WITHIN GROUP (ORDER BY customer_id), stddev(total_cents), corr(id, total_cents) FROM orders",
		"SELECT d::date, count(o.id) FROM generate_series('2025-01-01'::date, '2025-01-07', interval '1 day') AS d LEFT JOIN orders o ON o.created::date = d GROUP BY 1 ORDER BY 1",
		"SELECT lower(name) || ' ' || upper(country), substring(name FROM 1 FOR 3), trim(BOTH 'x' FROM name), position('a' IN name), overlay(name PLACING 'X' FROM 1), name ILIKE 'a%' ESCAPE '!', name SIMILAR TO '%a', name ~* '^a' FROM customers",
		`SELECT ('{"a": {"b": [1, 2]}}'::jsonb #>> '{a,b,0}')::int, '{"a": 1}'::jsonb ? 'a', jsonb_build_object('n', count(*)), to_jsonb(array_agg(id)) FROM products`,
		"SELECT k.key, k.value FROM json_each_text('{\"a\": 1}') AS k, unnest(ARRAY[1, 2]) WITH ORDINALITY AS u(v, n) WHERE n = 1",
		"SELECT (ARRAY[1, 2, 3])[2:3], (ARRAY[[1], [2]])[1][1], cardinality('{1,2}'::int[]), ROW(1, 2) = ROW(1, 2), (1, 2) < (1, 3)",
		"SELECT now() > '2020-01-01', age('2026-01-02'::date, '2026-01-01'), current_date - 1, make_interval(days => 3), timestamp '2026-01-01' AT TIME ZONE 'UTC', to_char(1234.5, 'FM9999.0')",
		"SELECT country FROM customers UNION SELECT 'XX' INTERSECT SELECT 'XX' EXCEPT ALL SELECT 'YY' ORDER BY 1 FETCH FIRST 2 ROWS WITH TIES",
		"SELECT c.*, o.total_cents FROM public.customers AS c LEFT OUTER JOIN public.orders AS o ON o.customer_id = c.id AND o.total_cents BETWEEN 1 AND 5000 WHERE c.name IS NOT NULL",
		"SELECT customers.name, count(*) FROM customers JOIN orders ON orders.customer_id = customers.id GROUP BY customers.id, customers.name, ROLLUP (customers.country)",
		"TABLE products", "VALUES (1, 'a'), (2, NULL) LIMIT ALL", "SELECT id FROM orders WHERE NOT id = 3 IS TRUE OR (id IS DISTINCT FROM 4) ORDER BY status COLLATE \"C\"",
	} {
		for name, client := range map[string]sqlqueryv1.SqlQueryServiceClient{"plain": plain, "hidden": hidden} {
			if _, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: query}); err != nil {
				t.Errorf("%s, %s: %v", name, query, err)
			}
		}
	}
}
