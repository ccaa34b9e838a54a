package index

import (
	"strings"
	"unicode/utf8"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// All SQL of the service is in this file, and what of it only SQLite
// understands is marked, since PostgreSQL is to take its place in production.

// version of the schema. An index with another version is set aside and made
// again from the stream, so there are no migrations.
const version = 1

// schema of the index.
//
// position is the order of arrival, which tails follow; time and id are the
// order that people want, and together tell events apart. Columns repeat what
// filters need of the event. Each further index costs about as much as the row
// itself, several times for every call that the system serves, so there is one
// for the needles, decisions, and one for the most common question, what a
// principal did. Other filters read along the time.
const schema = `
CREATE TABLE events (
	position INTEGER PRIMARY KEY, -- SQLite: counts up by itself
	time     INTEGER NOT NULL,    -- nanoseconds since 1970
	id       TEXT    NOT NULL,
	sequence INTEGER NOT NULL,    -- of the message in the stream
	kind     INTEGER NOT NULL,
	verdict  INTEGER NOT NULL,
	reason   INTEGER NOT NULL,
	decision TEXT    NOT NULL,
	principal TEXT   NOT NULL,
	tenant   TEXT    NOT NULL,
	action   TEXT    NOT NULL,
	target   TEXT    NOT NULL,
	trace    TEXT    NOT NULL,
	event    BLOB    NOT NULL     -- the bytes as they were in the stream
);
CREATE UNIQUE INDEX events_time ON events (time, id);
CREATE INDEX events_decision ON events (decision);
CREATE INDEX events_principal ON events (principal, time);

-- How far the index has come, in the same transaction as the events.
CREATE TABLE head (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	stream   INTEGER NOT NULL, -- when the stream was created, which names it
	sequence INTEGER NOT NULL,
	sum      BLOB    NOT NULL  -- SHA-256 of that message
);
INSERT INTO head (one, stream, sequence, sum) VALUES (1, 0, 0, x'');
`

// pragmas of SQLite. With synchronous=normal a power cut may lose the last
// transactions but not damage the file; what is lost comes again from the
// stream, because head is lost with it. The large log of 8,000 pages halves the
// cost of a row: hot pages are copied back once for many transactions. With
// temp_store=memory the journal of a statement of many rows is not a file.
const (
	pragmas = "_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)" +
		"&_pragma=wal_autocheckpoint(8000)&_pragma=journal_size_limit(67108864)&_pragma=cache_size(-16000)" +
		"&_pragma=temp_store(memory)"
	writePragmas = pragmas + "&_txlock=immediate"
	readPragmas  = pragmas + "&_pragma=query_only(1)"
	getVersion   = "PRAGMA user_version"
	setVersion   = "PRAGMA user_version = 1"
)

const (
	selectHead     = "SELECT stream, sequence, sum FROM head"
	updateHead     = "UPDATE head SET stream = ?, sequence = ?, sum = ?"
	selectPosition = "SELECT coalesce(max(position), 0) FROM events"
	selectEvent    = "SELECT event FROM events WHERE time = ? AND id = ?"

	rowColumns = "position, time, id, sequence, event"
	// The position must lead here and not the principal, or each step of a tail
	// would read all that a busy principal ever did. NOT INDEXED is SQLite's.
	fromByPosition = " FROM events NOT INDEXED"
	fromByTime     = " FROM events"

	insertColumns = 13
	insertInto    = "INSERT INTO events (time, id, sequence, kind, verdict, reason, decision, principal, tenant, action, target, trace, event) VALUES "
	insertRow     = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	insertOnce    = " ON CONFLICT (time, id) DO NOTHING"
)

// insert returns a statement for so many rows.
func insert(rows int) string {
	return insertInto + insertRow + strings.Repeat(", "+insertRow, rows-1) + insertOnce
}

// condition collects terms that must all hold.
type condition struct {
	terms []string
	args  []any
}

func (c *condition) and(term string, args ...any) {
	c.terms = append(c.terms, term)
	c.args = append(c.args, args...)
}

func (c *condition) String() string {
	if len(c.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.terms, " AND ")
}

// oneOf says that a column has one of the values, if there are any.
func oneOf[T any](c *condition, column string, values []T) {
	switch len(values) {
	case 0:
		return
	case 1:
		c.and(column+" = ?", values[0])
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	c.and(column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")", args...)
}

// filter adds the terms of f.
func (c *condition) filter(f *auditv1.Filter) {
	oneOf(c, "decision", f.GetDecisionIds())
	oneOf(c, "principal", f.GetPrincipals())
	c.targets(f.GetTargets())
	oneOf(c, "verdict", numbers(f.GetVerdicts()))
	oneOf(c, "reason", numbers(f.GetReasons()))
	oneOf(c, "kind", numbers(f.GetKinds()))
	oneOf(c, "action", f.GetActions())
	if f.GetSince() != nil {
		c.and("time >= ?", nanoseconds(f.GetSince()))
	}
	if f.GetUntil() != nil {
		c.and("time < ?", nanoseconds(f.GetUntil()))
	}
	if id := f.GetTraceId(); id != "" {
		c.and("trace = ?", strings.ToLower(id))
	}
	if tenant := f.GetTenant(); tenant != "" {
		c.and("tenant = ?", tenant)
	}
}

// targets says that the target is one of these, or begins with one that ends
// in "*".
func (c *condition) targets(targets []string) {
	if len(targets) == 0 {
		return
	}
	var exact, either condition
	var whole []string
	for _, t := range targets {
		prefix, open := strings.CutSuffix(t, "*")
		if !open {
			whole = append(whole, t)
			continue
		}
		// Not LIKE, which has wildcards of its own and ignores case. Bytes of
		// UTF-8 sort as characters do, so a prefix is a range.
		if end, ok := successor(prefix); ok {
			either.and("(target >= ? AND target < ?)", prefix, end)
		} else {
			either.and("target >= ?", prefix)
		}
	}
	if len(whole) > 0 {
		oneOf(&exact, "target", whole)
		either.and(exact.terms[0], exact.args...)
	}
	c.and("("+strings.Join(either.terms, " OR ")+")", either.args...)
}

// successor returns the smallest text that is greater than all that begin with
// prefix. There is none for the empty prefix.
func successor(prefix string) (string, bool) {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		switch {
		case last == utf8.MaxRune:
			continue // it has no successor: the character before it counts on
		case last == 0xD7FF:
			last = 0xE000 // surrogates are no characters
		default:
			last++
		}
		return prefix + string(last), true
	}
	return "", false
}

func numbers[T ~int32](in []T) []int64 {
	out := make([]int64, len(in))
	for i, v := range in {
		out[i] = int64(v)
	}
	return out
}
