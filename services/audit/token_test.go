package audit

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/index"
)

func FuzzReadCursor(f *testing.F) {
	asked, err := question(&auditv1.Filter{Tenant: "acme"}, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(writeCursor(asked, index.Key{Time: 1772366400000000000, ID: "01KJKZ00000000000000000001"}))
	f.Add("")
	f.Add("nonsense")
	f.Add(strings.Repeat("A", 63))
	f.Fuzz(func(t *testing.T, token string) {
		k, err := readCursor(asked, token)
		if err == nil && writeCursor(asked, k) != token {
			t.Errorf("%q was taken for the token of %v, which is %q", token, k, writeCursor(asked, k))
		}
		if err == nil && len(token) > 128 {
			t.Errorf("a token has %d characters, more than its rule allows", len(token))
		}
	})
}

func FuzzOpenBatch(f *testing.F) {
	good := &auditv1.Batch{Producer: "p", Sequence: 2, Previous: make([]byte, 32), Events: []*auditv1.Event{{Id: "a"}, {Id: "b"}}}
	raw, err := proto.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{})
	f.Add(raw[:len(raw)-1])
	f.Add(append(raw, 0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f))
	f.Add(bytes.Repeat([]byte{0x22, 0x00}, 2000))
	f.Add([]byte{0x0b, 0x0b, 0x0b})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := openBatch(data)
		if err != nil {
			return
		}
		// What is taken is read as the generated code reads it, except that
		// this does not look into the events.
		var want auditv1.Batch
		if proto.Unmarshal(data, &want) != nil {
			return
		}
		if b.producer != want.GetProducer() || b.sequence != want.GetSequence() ||
			!bytes.Equal(b.previous, want.GetPrevious()) || len(b.events) != len(want.GetEvents()) {
			t.Errorf("got %v, want %v", b, &want)
		}
		for i, raw := range b.events {
			var e auditv1.Event
			if err := proto.Unmarshal(raw, &e); err != nil || !proto.Equal(&e, want.GetEvents()[i]) {
				t.Errorf("event %d: got %v, %v, want %v", i, &e, err, want.GetEvents()[i])
			}
		}
		(&chains{last: make(map[string]link)}).add(b, data)
	})
}
