package line

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// heard is a connection on which bytes come, and whatever is sent is kept.
type heard struct {
	io.Reader
	bytes.Buffer
}

func (h *heard) Read(b []byte) (int, error) { return h.Reader.Read(b) }

func reading(b []byte) frames { return newFrames(&heard{Reader: bytes.NewReader(b)}) }

// framed is a message after its length.
func framed(t testing.TB, m proto.Message) []byte {
	t.Helper()
	var h heard
	f := newFrames(&h)
	if err := f.write(m); err != nil {
		t.Fatal(err)
	}
	return h.Bytes()
}

func announcing(size uint32, b ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, size), b...)
}

func TestMessagesThatAreNotAsAnnounced(t *testing.T) {
	whole := framed(t, copied(1, 10))
	var tooMuch []byte
	for range 70 {
		tooMuch = append(tooMuch, whole[headSize:]...)
	}
	for name, test := range map[string]struct {
		sent []byte
		want string
	}{
		"nothing":                   {nil, "EOF"},
		"half a length":             {whole[:2], "unexpected EOF"},
		"a length alone":            {whole[:headSize], "unexpected EOF"},
		"half a message":            {whole[:len(whole)/2], "unexpected EOF"},
		"much is announced":         {announcing(maxFrame, tooMuch...), "unexpected EOF"},
		"more than there can be":    {announcing(maxFrame+1, tooMuch...), "a message of 16777217 bytes is announced; at most 16777216 can be"},
		"the most that can be said": {announcing(1<<32-1, tooMuch...), "a message of 4294967295 bytes is announced; at most 16777216 can be"},
		"no message":                {announcing(4, 0xff, 0xff, 0xff, 0xff), "cannot parse invalid wire-format data"},
	} {
		t.Run(name, func(t *testing.T) {
			f := reading(test.sent)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := f.read(&quotav1.ClusterRequest{})
			runtime.ReadMemStats(&after)
			if err == nil || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if took, most := after.TotalAlloc-before.TotalAlloc, uint64(8*len(test.sent)+8*step); took > most {
				t.Errorf("it took %d bytes of memory, at most %d are wanted", took, most)
			}
		})
	}
}

func TestTooLongAMessageIsNotSent(t *testing.T) {
	t.Parallel()
	var h heard
	f := newFrames(&h)
	if err := f.write(copied(1, 40_000)); err == nil { // 21 MB
		t.Error("it was sent")
	}
	if h.Len() > 0 {
		t.Errorf("%d bytes were sent", h.Len())
	}
	if err := f.write(copied(2, 1)); err != nil {
		t.Error(err)
	}
}

func TestALargeMessageDoesNotHoldItsMemory(t *testing.T) {
	t.Parallel()
	sent := append(framed(t, copied(1, 8000)), framed(t, copied(2, 1))...)
	f := reading(sent)
	for i := range 2 {
		q := &quotav1.ClusterRequest{}
		if err := f.read(q); err != nil {
			t.Fatal(err)
		}
		if got := q.GetCopy().GetSequence(); got != uint64(i+1) {
			t.Errorf("got message %d", got)
		}
		if cap(f.in) > 2*step {
			t.Errorf("%d bytes are kept", cap(f.in))
		}
	}
	if err := f.read(&quotav1.ClusterRequest{}); err != io.EOF {
		t.Errorf("in the end: %v", err)
	}
}

// seeds are what lines carry.
func seeds(f *testing.F) {
	f.Helper()
	opening := framed(f, &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Line{Line: &quotav1.LineOpening{To: "a"}}})
	f.Add([]byte(nil))
	f.Add(opening)
	f.Add(append(opening, framed(f, copied(1, 2))...))
	f.Add(append(opening, opening...))
	f.Add(append(opening, announcing(maxFrame, 1, 2, 3)...))
	f.Add(announcing(1<<32-1, 1, 2, 3))
}

// FuzzRead reads messages until there are no more, and sends again what it has read.
func FuzzRead(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		in := reading(b)
		for {
			q := &quotav1.ClusterRequest{}
			if in.read(q) != nil {
				break
			}
			if cap(in.in) > 2*step {
				t.Fatalf("%d bytes are kept", cap(in.in))
			}
			again, out := &quotav1.ClusterRequest{}, reading(framed(t, q))
			if err := out.read(again); err != nil || !proto.Equal(q, again) {
				t.Fatalf("%v became %v, %v", q, again, err)
			}
		}
	})
}

// FuzzServe sends a node whatever another one might.
func FuzzServe(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		dialled, accepted := net.Pipe()
		asked := 0
		n := node{make(chan struct{}), func(ctx context.Context, q *quotav1.ClusterRequest) *quotav1.ClusterReply {
			asked++
			return echo(ctx, q)
		}}
		done := make(chan error, 1)
		go func() {
			_, err := dialled.Write(b)
			done <- errors.Join(err, dialled.Close())
		}()
		heard := make(chan int, 1)
		go func() {
			replies := 0
			for in := newFrames(dialled); in.read(&quotav1.ClusterReply{}) == nil; {
				replies++
			}
			heard <- replies
		}()
		_ = Serve(t.Context(), accepted, n) // whatever it was
		<-done
		if replies := <-heard; replies > asked+1 {
			t.Errorf("%d requests had %d replies", asked, replies)
		}
		if _, err := accepted.Write([]byte{0}); err == nil {
			t.Error("the connection is open")
		}
	})
}
