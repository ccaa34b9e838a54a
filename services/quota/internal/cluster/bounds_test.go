package cluster_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// What is over its bounds is answered with nothing, over lines as over the wire.
func TestRequestsKeepToTheirBounds(t *testing.T) {
	t.Parallel()
	asks := func(f *quotav1.AskFrame) *quotav1.ClusterRequest {
		return &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Asks{Asks: f}}
	}
	groups := func(count int) *quotav1.ClusterRequest {
		return asks(&quotav1.AskFrame{Verbs: make([]quotav1.AskVerb, count)})
	}
	permit := func(size int) *quotav1.ClusterRequest {
		return asks(&quotav1.AskFrame{
			Verbs: []quotav1.AskVerb{0, quotav1.AskVerb_ASK_VERB_RELEASE}, PermitIds: []string{"", strings.Repeat("p", size)},
		})
	}
	keys := func(size uint32) *quotav1.ClusterRequest {
		return asks(&quotav1.AskFrame{
			Verbs: make([]quotav1.AskVerb, 1), Sizes: []uint32{size}, Limits: make([]uint64, size), His: make([]uint64, size), Los: make([]uint64, size),
		})
	}
	copied := func(f *quotav1.CopyFrame) *quotav1.ClusterRequest {
		return &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Copy{Copy: f}}
	}
	words := func(count int) *quotav1.ClusterRequest {
		return copied(&quotav1.CopyFrame{Counters: []*quotav1.CounterState{{}, {Words: make([]uint32, count)}}})
	}
	copiedPermit := func(size int) *quotav1.ClusterRequest {
		return copied(&quotav1.CopyFrame{Permits: []*quotav1.PermitState{{}, {Id: strings.Repeat("p", size)}}})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		m := w.start("n", cluster.DefaultConfig(), []limiter.Spec{{Max: 5, Window: time.Minute}}, []limiter.PermitSpec{{Max: 2, TTL: time.Minute}})
		settle(t, m)
		for _, test := range []struct {
			name string
			q    *quotav1.ClusterRequest
			want bool
		}{
			{"groups", groups(512), true},
			{"too many groups", groups(513), false},
			{"asks", keys(64), true},
			{"too many asks", keys(65), false},
			{"a permit", permit(64), true},
			{"too long a permit", permit(65), false},
			{"words", words(128), true},
			{"too many words", words(129), false},
			{"a copied permit", copiedPermit(64), true},
			{"too long a copied permit", copiedPermit(65), false},
		} {
			reply := m.Answer(t.Context(), m.ID(), test.q)
			if got := reply.GetReply() != nil; got != test.want {
				t.Errorf("%s over a line: answered %t, want %t", test.name, got, test.want)
			}
			subject := "asks"
			if test.q.GetCopy() != nil {
				subject = "copies"
			}
			reply = w.handed(t, subject, test.q)
			if got := reply.GetReply() != nil; got != test.want {
				t.Errorf("%s over the wire: answered %t, want %t", test.name, got, test.want)
			}
		}
	})
}

// handed gives a request to who answers those of a kind.
func (w *world) handed(t *testing.T, kind string, q *quotav1.ClusterRequest) *quotav1.ClusterReply {
	t.Helper()
	w.mu.Lock()
	var handler *handler
	for subject, h := range w.handlers {
		if strings.Contains(subject, kind) {
			handler = h
		}
	}
	w.mu.Unlock()
	if handler == nil {
		t.Fatalf("nobody answers %s", kind)
	}
	return handler.on(t.Context(), q)
}
