package demodb

import (
	"fmt"
	"strings"
)

// statements returns what makes the database, one statement each, in order.
func statements(d Dialect) []string {
	day := "TEXT" // SQLite has no type for days; text of this form sorts as days do
	if d == Postgres {
		day = "date"
	}
	out := []string{
		`CREATE TABLE customers (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  email TEXT NOT NULL UNIQUE,
  country TEXT NOT NULL,
  plan TEXT NOT NULL CHECK (plan IN ('free', 'pro', 'enterprise')),
  created ` + day + ` NOT NULL
)`,
		`CREATE TABLE products (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  category TEXT NOT NULL,
  price_cents INTEGER NOT NULL CHECK (price_cents > 0),
  stock INTEGER NOT NULL CHECK (stock >= 0)
)`,
		`CREATE TABLE orders (
  id INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  product_id INTEGER NOT NULL REFERENCES products (id),
  quantity INTEGER NOT NULL CHECK (quantity > 0),
  total_cents INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'paid', 'shipped', 'delivered', 'cancelled', 'refunded')),
  created ` + day + ` NOT NULL
)`,
		`CREATE INDEX orders_customer ON orders (customer_id)`,
		`CREATE INDEX orders_product ON orders (product_id)`,
	}

	customers, products := seedCustomers(), seedProducts()
	var rows []string
	for _, c := range customers {
		rows = append(rows, tuple(c.id, c.name, c.email, c.country, c.plan, c.created.Format(dayFormat)))
	}
	out = append(out, insert("customers (id, name, email, country, plan, created)", rows))

	rows = nil
	for _, p := range products {
		rows = append(rows, tuple(p.id, p.name, p.category, p.cents, p.stock))
	}
	out = append(out, insert("products (id, name, category, price_cents, stock)", rows))

	rows = nil
	for _, o := range seedOrders(customers, products) {
		rows = append(rows, tuple(o.id, o.customer, o.product, o.quantity, o.cents, o.status, o.created.Format(dayFormat)))
	}
	return append(out, insert("orders (id, customer_id, product_id, quantity, total_cents, status, created)", rows))
}

const dayFormat = "2006-01-02"

func insert(into string, rows []string) string {
	return "INSERT INTO " + into + " VALUES\n  " + strings.Join(rows, ",\n  ")
}

// tuple writes values as SQL literals that both engines read alike.
func tuple(values ...any) string {
	out := make([]string, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case string:
			out[i] = "'" + strings.ReplaceAll(v, "'", "''") + "'"
		default:
			out[i] = fmt.Sprint(v)
		}
	}
	return "(" + strings.Join(out, ", ") + ")"
}
