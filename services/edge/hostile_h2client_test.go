package edge_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// secure gives an edge a certificate, and returns the configuration of clients
// that trust it.
func secure(t *testing.T, o *edge.Options) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	if err := devca.Ensure(dir, "localhost"); err != nil {
		t.Fatal(err)
	}
	o.Config.TLSCert, o.Config.TLSKey = filepath.Join(dir, "localhost.crt"), filepath.Join(dir, "localhost.key")
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2"}}
}

// h2 is a client that sends whatever frames it likes.
type h2 struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	next   uint32

	mu   sync.Mutex
	told []string
	more chan struct{} // something was told
}

// dialH2 opens a connection and reads from it in the background until it ends.
func dialH2(t *testing.T, addr string, cfg *tls.Config) *h2 {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := newH2(t, conn)
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.read()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-read
	})
	return c
}

func newH2(t *testing.T, conn net.Conn) *h2 {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	c := &h2{t: t, conn: conn, framer: http2.NewFramer(conn, conn), next: 1, more: make(chan struct{}, 1)}
	c.framer.AllowIllegalWrites = true
	c.enc = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	_ = c.framer.WriteSettings()
	_ = c.framer.WriteWindowUpdate(0, 1<<30) // all answers of a test fit in
	return c
}

// read tells what comes back: the status of each stream or how it was reset, and
// how the connection ended.
func (c *h2) read() {
	decoder := hpack.NewDecoder(4096, nil)
	ended := "closed"
	defer func() { c.tell(ended) }()
	for {
		frame, err := c.framer.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			ended = "open for too long"
		}
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			fields, err := decoder.DecodeFull(f.HeaderBlockFragment())
			if err != nil || len(fields) == 0 {
				ended = "answers that cannot be read"
				return
			}
			c.tell(fmt.Sprintf("%d: %s", f.StreamID, fields[0].Value))
		case *http2.RSTStreamFrame:
			if f.ErrCode != http2.ErrCodeNo { // that is for a body that nobody wants
				c.tell(fmt.Sprintf("%d: %s", f.StreamID, f.ErrCode))
			}
		case *http2.GoAwayFrame:
			ended = "closed, " + f.ErrCode.String()
		}
	}
}

func (c *h2) tell(what string) {
	c.mu.Lock()
	c.told = append(c.told, what)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// expect returns what is told next.
func (c *h2) expect() string {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		if len(c.told) > 0 {
			what := c.told[0]
			c.told = c.told[1:]
			c.mu.Unlock()
			return what
		}
		c.mu.Unlock()
		select {
		case <-c.more:
		case <-timeout:
			c.t.Fatal("nothing is told")
		}
	}
}

// headers encodes fields, given as pairs.
func (c *h2) headers(pairs ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // to memory
	}
	return bytes.Clone(c.block.Bytes())
}

// open begins a stream with these fields, and returns its id.
func (c *h2) open(end bool, pairs ...string) uint32 {
	id := c.next
	c.next += 2
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.headers(pairs...), EndStream: end, EndHeaders: true,
	})
	return id
}

// ping2 are the fields of an honest ping, and more.
func ping2(more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", "/ping", "x-api-key", "good"}, more...)
}

// post2 are the fields of a legacy request with a body, and more.
func post2(more ...string) []string {
	return append([]string{
		":method", "POST", ":scheme", "https", ":authority", "localhost", ":path", "/mcp",
		"authorization", "Bearer good", "content-type", "application/json", "mcp-protocol-version", "2025-11-25",
	}, more...)
}

// replace returns pairs with another value for one name.
func replace(pairs []string, name, value string) []string {
	out := slices.Clone(pairs)
	for i := 0; i < len(out); i += 2 {
		if out[i] == name {
			out[i+1] = value
		}
	}
	return out
}
