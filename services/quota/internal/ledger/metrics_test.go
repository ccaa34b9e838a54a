package ledger_test

import (
	"context"
	"errors"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
)

// mute is a log that does not answer while it is muted.
type mute struct {
	ledger.Log
	muted bool
}

func (m *mute) Append(ctx context.Context, last uint64, id string, data []byte) (uint64, error) {
	if m.muted {
		return 0, errors.New("no answer")
	}
	return m.Log.Append(ctx, last, id, data)
}

func (m *mute) Read(ctx context.Context, from uint64, on func(uint64, []byte) error) (uint64, uint64, error) {
	if m.muted {
		return 0, 0, errors.New("no answer")
	}
	return m.Log.Read(ctx, from, on)
}

func TestABookTellsHowItIs(t *testing.T) {
	t.Parallel()
	b, c := newBus(t), newClock(start)
	log := &mute{Log: b.Ledger()}
	needed := false
	book := open(t, b, c, func(o *ledger.Options) {
		o.Log, o.Patience, o.Needed = log, time.Second, func() bool { return needed }
	})
	reader := sdkmetric.NewManualReader()
	if err := book.Observe(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")); err != nil {
		t.Fatal(err)
	}
	if err := book.Ready(t.Context()); err != nil {
		t.Errorf("without durable quotas: %v", err)
	}
	needed = true
	if err := book.Ready(t.Context()); err == nil {
		t.Error("ready before the ledger was read")
	}
	for _, x := range []string{"a", "b", "a", "a"} {
		if ok, err := book.Spend(t.Context(), id(x), time.Minute, []ledger.Ask{ask(1, "ann", 10, 1)}); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if err := book.Ready(t.Context()); err != nil {
		t.Errorf("after it has answered: %v", err)
	}
	got := figures(t, reader)
	for name, want := range map[string]float64{"bookings": 2, "duplicates": 2, "conflicts": 0, "keys": 1, "ids": 2, "append_duration": 2} {
		if got["sallyport.quota.ledger."+name] != want {
			t.Errorf("%s: got %v, want %v", name, got["sallyport.quota.ledger."+name], want)
		}
	}
	if _, ok := got["sallyport.quota.ledger.lag"]; !ok {
		t.Error("no lag is told")
	}
	log.muted = true
	if _, err := book.Spend(t.Context(), id("c"), time.Minute, []ledger.Ask{ask(1, "ann", 10, 1)}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("while the ledger is silent: got %v, want %v", err, ledger.ErrUnavailable)
	}
	if err := book.Ready(t.Context()); err == nil {
		t.Error("ready while the ledger is silent")
	}
}

// figures reads all instruments; of a histogram it takes how much was recorded.
func figures(t *testing.T, r *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				got[m.Name] = float64(d.DataPoints[0].Value)
			case metricdata.Gauge[int64]:
				got[m.Name] = float64(d.DataPoints[0].Value)
			case metricdata.Gauge[float64]:
				got[m.Name] = d.DataPoints[0].Value
			case metricdata.Histogram[float64]:
				got[m.Name] = float64(d.DataPoints[0].Count)
			}
		}
	}
	return got
}
