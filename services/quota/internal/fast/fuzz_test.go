package fast_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// FuzzFrame hands a node whatever another one might send: as a frame, as a page and
// as a request.
func FuzzFrame(f *testing.F) {
	for _, text := range []string{
		`{"boot": "7", "member": "b", "sequence": "1", "sentNanos": "5", "counts": [{"limit": "1000", "hi": "1", "lo": "2", "at": "-9", "widthNanos": "6000000000", "parts": [1, 2, 3]}]}`,
		`{"boot": "7", "sequence": "9", "counts": [{"limit": "1001", "hi": "1", "at": "28000000", "widthNanos": "60000000000", "parts": [4294967295]}, {"limit": "1001", "parts": [1, 1]}]}`,
		`{"boot": "8", "leaving": true, "peaks": [{"limit": "1000", "units": 4}]}`,
		`{"boot": "7", "sentNanos": "-9223372036854775808", "counts": [{"limit": "1000", "boot": "3", "sequence": "4", "at": "9223372036854775807", "widthNanos": "-1", "parts": [0, 0]}]}`,
	} {
		m := new(quotav1.FastFrame)
		if err := protojson.Unmarshal([]byte(text), m); err != nil {
			f.Fatal(err)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, page, q := new(quotav1.FastFrame), new(quotav1.FastSyncReply), new(quotav1.FastSyncRequest)
		w := newWorld(t, 1, 1, thousand, limiter.Spec{Algorithm: limiter.Fixed, Clock: true, Max: 100, Window: time.Minute, Without: limiter.Share})
		n := w.nodes[0]
		if proto.Unmarshal(b, frame) == nil {
			if gap := n.Receive(n.now(), frame); gap != nil {
				if proto.Unmarshal(b, page) == nil {
					n.Page(n.now(), gap.Boot, page)
				}
				n.Page(n.now(), gap.Boot, &quotav1.FastSyncReply{SentNanos: frame.GetSentNanos(), Counts: frame.GetCounts()})
				n.Synced(n.now(), gap.Boot, page)
			}
			for _, c := range frame.GetCounts() {
				asks := []limiter.Ask{{Limit: 0, Key: limiter.Key{Hi: c.GetHi(), Lo: c.GetLo()}, Cost: 1}, {Limit: 1, Key: limiter.Key{Hi: c.GetHi(), Lo: c.GetLo()}, Cost: 1}}
				_, _ = n.Take(n.now(), asks) // whatever it says
				for _, a := range asks {
					if a.State.Wait < 0 || a.State.Reset < 0 || a.State.Wait > 24*time.Hour && a.State.Wait != limiter.Never {
						t.Errorf("%+v", a.State)
					}
				}
			}
		}
		if proto.Unmarshal(b, q) == nil {
			n.Tell(n.now(), q)
		}
		n.Change(n.now(), w.specs)
		for part := range n.Shards() {
			n.Sweep(n.now(), part)
		}
	})
}
