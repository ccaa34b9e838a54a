package quota

import (
	"context"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// tallies count decisions, and are read when metrics are: to tell OpenTelemetry of
// each one costs half as much as to count it in its limit.
type tallies struct {
	allowed atomic.Int64

	mu      sync.Mutex
	refused map[string]*atomic.Int64 // by id of the rule, of all that there were
}

func newTallies() *tallies { return &tallies{refused: make(map[string]*atomic.Int64)} }

// of returns those of rules, by number. A rule that comes again goes on counting.
func (t *tallies) of(ids []string) []*atomic.Int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*atomic.Int64, len(ids))
	for i, id := range ids {
		if t.refused[id] == nil {
			t.refused[id] = new(atomic.Int64)
		}
		all[i] = t.refused[id]
	}
	return all
}

// observe is a [metric.Int64Callback].
func (t *tallies) observe(_ context.Context, o metric.Int64Observer) error {
	tell := func(n int64, kvs ...attribute.KeyValue) {
		if n > 0 {
			o.Observe(n, metric.WithAttributes(kvs...))
		}
	}
	tell(t.allowed.Load(), attribute.Bool("allowed", true))
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, n := range t.refused {
		tell(n.Load(), attribute.Bool("allowed", false), attribute.String("rule", id))
	}
	return nil
}
