package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/sallyport-mcp/sallyport/pkg/freeport"
)

// relay passes TCP connections on to an address, and can stop to: as a cable does
// that is pulled, without a word to either side, or as a program that ends.
type relay struct {
	address string
	target  string

	mu     sync.Mutex
	change *sync.Cond
	frozen bool
	cut    bool
	conns  map[net.Conn]bool
}

// newRelay starts a relay. The target may be set later.
func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: lis.Addr().String(), target: target, conns: make(map[net.Conn]bool)}
	r.change = sync.NewCond(&r.mu)
	var pipes sync.WaitGroup
	pipes.Go(func() {
		for {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			pipes.Go(func() { r.pass(in) })
		}
	})
	t.Cleanup(func() {
		_ = lis.Close()
		r.set(false, true)
		pipes.Wait()
	})
	return r
}

// set says whether nothing is passed on, and whether there are no connections.
func (r *relay) set(frozen, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen, r.cut = frozen, cut
	if cut {
		for c := range r.conns {
			_ = c.Close()
		}
	}
	r.change.Broadcast()
}

func (r *relay) pass(in net.Conn) {
	defer func() { _ = in.Close() }()
	r.mu.Lock()
	target := r.target
	r.mu.Unlock()
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	if !r.hold(in, out) {
		return
	}
	defer r.drop(in, out)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			_, _ = io.Copy(gate{r, way[1]}, way[0])
			_, _ = in.Close(), out.Close()
		})
	}
	both.Wait()
}

func (r *relay) hold(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		r.conns[c] = true
	}
	return !r.cut
}

func (r *relay) drop(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		delete(r.conns, c)
	}
}

// gate holds back what is written while the relay is frozen.
type gate struct {
	relay *relay
	net.Conn
}

func (g gate) Write(b []byte) (int, error) {
	g.relay.mu.Lock()
	for g.relay.frozen {
		g.relay.change.Wait()
	}
	g.relay.mu.Unlock()
	return g.Conn.Write(b)
}

// natsCluster is three NATS servers that are one.
type natsCluster struct {
	urls [3]string
	// third are the ways from and to the third server for the other two.
	third   []*relay
	servers [3]*server.Server
}

// newCluster starts one. Of clients each server tells nothing of the others.
func newCluster(t *testing.T) *natsCluster {
	t.Helper()
	var routes [3]string
	for i := range routes {
		routes[i] = freeport.Address(t)
	}
	c := new(natsCluster)
	var advertised [3]*relay
	for i := range advertised {
		advertised[i] = newRelay(t, routes[i])
		c.third = append(c.third, advertised[i])
	}
	for i := range routes {
		var peers []*url.URL
		for j, address := range routes {
			switch {
			case j == i, i < 2 && j == 2: // the third comes to the others
				continue
			case i == 2:
				way := newRelay(t, address)
				c.third = append(c.third, way)
				address = way.address
			}
			peers = append(peers, &url.URL{Scheme: "nats", Host: address})
		}
		_, port, err := net.SplitHostPort(routes[i])
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i+1), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), Routes: peers,
			Cluster: server.ClusterOpts{
				Name: "c", Host: "127.0.0.1", Port: number, NoAdvertise: true, PoolSize: -1, Advertise: advertised[i].address,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		c.servers[i] = s
	}
	for i, s := range c.servers {
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("a NATS server does not start")
		}
		c.urls[i] = s.ClientURL()
	}
	await(t, "the NATS servers have a leader", func() bool {
		for _, s := range c.servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
	return c
}

// lead makes the first two servers lead a stream, so that it goes on without the
// third.
func (c *natsCluster) lead(t *testing.T, stream string) {
	t.Helper()
	conn, err := nats.Connect(c.urls[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	await(t, "another server leads "+stream, func() bool {
		if c.servers[2].JetStreamIsStreamLeader("$G", stream) {
			_, _ = conn.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, time.Second) // or else again
			return false
		}
		return c.servers[0].JetStreamIsStreamLeader("$G", stream) || c.servers[1].JetStreamIsStreamLeader("$G", stream)
	})
}

// isolate cuts the third server off from the other two, or brings it back.
func (c *natsCluster) isolate(frozen bool) {
	for _, r := range c.third {
		r.set(frozen, false)
	}
}
