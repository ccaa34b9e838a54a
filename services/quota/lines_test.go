package quota_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/line"
)

const linedRules = `
cluster: {enabled: true, lease: 10s, patience: 5s}
rules: [{id: per-ip, key: [ip], limit: 10/hour}]
`

// lined starts members, and waits until none asks another over NATS.
func lined(t *testing.T, count int) []*member {
	t.Helper()
	url := natsServer(t).URL()
	var members []*member
	for range count {
		members = append(members, startOn(t, onBus(url), linedRules))
	}
	n := 0
	await(t, "lines", func() bool {
		var before, after int64
		for _, m := range members {
			before += m.wire.asked.Load()
		}
		for _, m := range members {
			for range 20 { // some of which are the others' to decide
				n++
				if _, err := m.Check(t.Context(), check("ip", fmt.Sprintf("2001:db8:1:%x::1", n%0xffff))); err != nil {
					return false
				}
			}
		}
		for _, m := range members {
			after += m.wire.asked.Load()
			if m.svc.Ready(t.Context()) != nil {
				return false
			}
		}
		return before == after
	})
	return members
}

func TestNodesDecideOverLines(t *testing.T) {
	t.Parallel()
	members := lined(t, 3)
	for i := range 100 {
		allowed := 0
		for j := range 15 {
			res, err := members[j%3].Check(t.Context(), check("ip", fmt.Sprintf("2001:db8:2:%x::1", i)))
			if err != nil {
				t.Fatal(err)
			}
			if res.GetAllowed() {
				allowed++
			}
		}
		if allowed != 10 {
			t.Errorf("admitted %d of 10", allowed)
		}
	}
	for _, m := range members {
		m.hangUp()
	}
	lost, before := 0, members[0].wire.asked.Load()
	for i := range 300 {
		if _, err := members[i%3].svc.Check(t.Context(), check("ip", fmt.Sprintf("2001:db8:3:%x::1", i))); err != nil {
			lost++
		}
	}
	if lost > 6 { // one for each line whose end is heard of too late
		t.Errorf("%d checks were not decided when lines broke", lost)
	}
	if members[0].wire.asked.Load() == before {
		t.Error("nothing goes over NATS without lines")
	}
}

func TestLinesEndWithTheirNode(t *testing.T) {
	t.Parallel()
	members := lined(t, 2)
	m := members[1]
	m.leave()
	<-m.stopped
	await(t, "the end of its lines", func() bool {
		m.ends.mu.Lock()
		defer m.ends.mu.Unlock()
		return !slices.ContainsFunc(m.ends.all, func(c net.Conn) bool { return !errors.Is(c.SetDeadline(time.Time{}), net.ErrClosed) })
	})
	conn, err := identities(t, m.bus.URL()).Dial(t.Context(), "quota", "quota", m.address, line.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := line.Open(t.Context(), conn, "x"); err == nil || errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(err.Error(), "not the member") {
		t.Errorf("another one is opened: %v, %v", l, err)
	}
}

func TestOnlyNodesOpenLines(t *testing.T) {
	t.Parallel()
	members := lined(t, 2)
	m, url := members[0], members[0].bus.URL()
	head := func(size uint32) []byte { return binary.BigEndian.AppendUint32(nil, size) }
	frame := func(q *quotav1.ClusterRequest) []byte {
		b, err := proto.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		return append(head(uint32(len(b))), b...)
	}
	ask := &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Asks{Asks: &quotav1.AskFrame{}}}
	opening := func(id string) *quotav1.ClusterRequest {
		return &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Line{Line: &quotav1.LineOpening{To: id}}}
	}
	for name, test := range map[string]struct {
		role string
		sent []byte
		want string // all that is heard
	}{
		"an edge":                  {"edge", frame(opening("x")), ""},
		"for another member":       {"quota", frame(opening("x")), notMember},
		"for nobody":               {"quota", frame(opening("")), notMember},
		"for what is no id":        {"quota", frame(opening(strings.Repeat("x", 1<<20))), notMember},
		"nothing":                  {"quota", nil, ""},
		"no opening":               {"quota", frame(ask), ""},
		"an empty message":         {"quota", head(0), ""},
		"half a message":           {"quota", append(head(100), "half"...), ""},
		"too long a message":       {"quota", head(16<<20 + 1), ""},
		"the longest there can be": {"quota", head(1<<32 - 1), ""},
		"no messages":              {"quota", []byte("\x00\x00\x00\x04\xff\xff\xff\xff"), ""},
		"HTTP":                     {"quota", []byte("GET / HTTP/1.1\r\n\r\n"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := identities(t, url).Dial(t.Context(), test.role, "quota", m.address, line.Protocol)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write(test.sent) // it may have hung up already
			if test.want == "" {
				_ = conn.(*tls.Conn).CloseWrite()
			}
			heard, err := io.ReadAll(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("it does not hang up")
			}
			if string(heard) != test.want {
				t.Errorf("heard %q, want %q", heard, test.want)
			}
		})
	}
	before := members[0].wire.asked.Load() + members[1].wire.asked.Load()
	for i := range 40 { // half of which are the other's to decide
		if _, err := members[i%2].Check(t.Context(), check("ip", fmt.Sprintf("2001:db8:4:%x::1", i))); err != nil {
			t.Error(err)
		}
	}
	if after := members[0].wire.asked.Load() + members[1].wire.asked.Load(); after != before {
		t.Errorf("%d requests went over NATS after that", after-before)
	}
}

// notMember is a reply that says so, after its length.
const notMember = "\x00\x00\x00\x02\x30\x01"
