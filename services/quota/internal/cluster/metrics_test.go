package cluster_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

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

func TestAClusterTellsHowItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		members := cluster3(t, w, []limiter.Spec{{Max: 10, Window: time.Hour}}, nil)
		rng := rand.New(rand.NewPCG(1, 1))
		for range 100 {
			key := randomKey(rng)
			for range 12 { // two more than may
				if _, err := members[0].Take(t.Context(), ask(key)); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Second)
		var slots float64
		for _, m := range members {
			got := figures(t, m.reader)
			slots += got["sallyport.quota.cluster.slots"]
			if got["sallyport.quota.cluster.epoch"] != figures(t, members[0].reader)["sallyport.quota.cluster.epoch"] {
				t.Errorf("%s follows another view: %v", m.name, got)
			}
			if age := got["sallyport.quota.cluster.lease"]; age <= 0 || age > 0.5 {
				t.Errorf("%s renewed its lease %v s ago", m.name, age)
			}
			if got["sallyport.quota.cluster.uncopied"] != 0 {
				t.Errorf("%s: heirs lack what was admitted a second ago: %v", m.name, got)
			}
			if got["sallyport.quota.cluster.takeovers"] < got["sallyport.quota.cluster.slots"] || got["sallyport.quota.cluster.copy_lag"] == 0 {
				t.Errorf("%s: got %v", m.name, got)
			}
		}
		if slots != 1024 {
			t.Errorf("%v slots are served, of 1024", slots)
		}
		got := figures(t, members[0].reader)
		// Of a key of another node, ten are admitted there and the eleventh refused;
		// the twelfth is known.
		if forwarded, known := got["sallyport.quota.cluster.forwarded"], got["sallyport.quota.cluster.remembered"]; known < 30 || known > 95 || forwarded != 11*known {
			t.Errorf("forwarded %v, remembered %v", forwarded, known)
		}
		w.setCut("n0", true)
		time.Sleep(5 * time.Second)
		if _, err := members[0].Take(t.Context(), ask(randomKey(rng))); err == nil {
			t.Error("a node that is cut off decides")
		}
		if got := figures(t, members[0].reader); got["sallyport.quota.cluster.undecided"] != 1 || got["sallyport.quota.cluster.lease"] < 1 {
			t.Errorf("cut off: got %v", got)
		}
	})
}
