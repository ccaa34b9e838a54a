package cluster_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// FuzzRequest hands a node whatever another one might send.
func FuzzRequest(f *testing.F) {
	for _, text := range []string{
		`{"asks": {"verbs": ["ASK_VERB_TAKE"], "sizes": [1], "limits": ["100"], "his": ["1"], "los": ["2"], "costs": [3]}}`,
		`{"asks": {"verbs": ["ASK_VERB_RESERVE", "ASK_VERB_UNDO"], "sizes": [1, 1], "limits": ["100", "101"], "his": ["1", "1"], "los": ["2", "2"], "costs": [0, 1], "marks": ["0", "77"], "reigns": ["0", "1"]}}`,
		`{"asks": {"verbs": ["ASK_VERB_ACQUIRE", "ASK_VERB_RELEASE", 99], "sizes": [1, 1], "permitIds": ["p", "p"], "limits": ["200", "0"], "his": ["0", "0"], "los": ["0", "0"]}}`,
		`{"copy": {"from": "x", "sequence": "1", "epoch": "1", "slots": [{"slot": 5000}], "counters": [{"limit": "100", "words": [0]}], "permits": [{"id": "p", "holds": [{"limit": "200", "leftNanos": "9"}]}]}}`,
		`{"holdings": {"epoch": "1"}}`,
		`{"page": {"epoch": "1", "part": 4000000000, "slots": "` + string(make64('/', 171)) + `="}}`,
		`{"check": {}}`,
	} {
		q := new(quotav1.ClusterRequest)
		if err := protojson.Unmarshal([]byte(text), q); err != nil {
			f.Fatal(err)
		}
		b, err := proto.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	w := newWorld(f, 1)
	m := w.start("n", cluster.DefaultConfig(), []limiter.Spec{{Max: 5, Window: time.Minute}, {Max: 500, Window: time.Minute}}, []limiter.PermitSpec{{Max: 2, TTL: time.Minute}})
	settle(f, m)
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(quotav1.ClusterRequest)
		if proto.Unmarshal(b, q) != nil {
			return
		}
		w.mu.Lock()
		var handlers []*handler
		for _, h := range w.handlers {
			handlers = append(handlers, h)
		}
		w.mu.Unlock()
		for _, h := range handlers {
			if h.on(t.Context(), q) == nil {
				t.Fatal("no reply")
			}
		}
	})
}

func make64(c byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = c
	}
	return b
}
