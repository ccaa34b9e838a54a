//go:build cluster

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

// frontAddress is where the front calls from. The edges believe what it says of
// its clients, and nobody else: not who calls from otherAddress.
const frontAddress, otherAddress = "127.0.0.2", "127.0.0.3"

// frontRules leave two limits by address, of which one is the default's for
// summaries. The nodes bear a busy machine.
const frontRules = `
roles:
  edge: {trusted_proxies: [127.0.0.2]}
  quota:
    cluster: {lease: 10s, patience: 5s}
    rules:
      - {id: summarize-logs-per-ip, match: {tool: summarize_logs}, key: [ip], limit: 5/minute}
      - {id: echo-per-ip, match: {tool: echo}, key: [ip], limit: 12/hour}
`

// clientHeader tells the front where a client is, which it would else know from
// the connection.
const clientHeader = "Test-Client"

// connectionsFrom makes connections from an address of this machine.
func connectionsFrom(t *testing.T, address string) *http.Transport {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext,
		MaxIdleConnsPerHost: 64,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// roundRobin starts a front that sends each request to the next edge.
func roundRobin(t *testing.T, edges []string) *httptest.Server {
	t.Helper()
	var next atomic.Int64
	transport := connectionsFrom(t, frontAddress)
	front := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			edge := edges[int(next.Add(1))%len(edges)]
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", edge, edge
			// What the client claims comes first, then who it is.
			r.Out.Header["X-Forwarded-For"] = append(r.In.Header["X-Forwarded-For"], r.In.Header.Get(clientHeader))
			r.Out.Header.Del(clientHeader)
		},
	})
	t.Cleanup(front.Close)
	return front
}

// clientAt sends requests from an address of the test's choice.
type clientAt string

// RoundTrip implements [http.RoundTripper].
func (c clientAt) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(clientHeader, string(c))
	return http.DefaultTransport.RoundTrip(r)
}

// frontage is an instance with three edges and a front before them.
type frontage struct {
	t      *testing.T
	i      instance.Instance
	edges  []string
	front  string
	direct *http.Client
}

func newFrontage(t *testing.T, rules, replicas string) *frontage {
	t.Helper()
	config := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &frontage{t: t, direct: &http.Client{Transport: connectionsFrom(t, otherAddress)}}
	f.i, _ = dev(t, t.TempDir(), "--config", config, "--processes", "--replicas", replicas)
	for _, u := range f.i.MCPURLs {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		f.edges = append(f.edges, parsed.Host)
	}
	if len(f.edges) != 3 {
		t.Fatalf("got %d edges, want 3", len(f.edges))
	}
	f.front = strings.TrimPrefix(roundRobin(t, f.edges).URL, "http://")
	return f
}

// route tells who makes the n-th request, and where.
type route func(n int) (agent, string)

// through sends requests by the front, from addresses of the test's choice.
func (f *frontage) through(client func(n int) string) route {
	return func(n int) (agent, string) {
		return agent{client: &http.Client{Transport: clientAt(client(n))}, from: fmt.Sprintf("203.0.113.%d", n%256)}, f.front
	}
}

// past sends them to the edges themselves, with claims of where they come from.
func (f *frontage) past(n int) (agent, string) {
	return agent{client: f.direct, from: fmt.Sprintf("203.0.113.%d", n%256)}, f.edges[n%3]
}

// admitted makes requests, many at once, and returns those that passed; each is
// made by an agent of its own. Those that nobody could decide are made again, and
// their number is returned too, for they may have been counted.
func (f *frontage) admitted(tool, arguments string, requests int, to route, keys ...string) (passed *passes, again int) {
	began, passed := time.Now(), new(passes)
	var undecided, next atomic.Int64
	var g sync.WaitGroup
	for range min(requests, 60) {
		g.Go(func() {
			for n := int(next.Add(1)) - 1; n < requests; n = int(next.Add(1)) - 1 {
				a, address := to(n)
				a.key = keys[n/3%len(keys)] // the front takes three edges in turn
				for decided := false; !decided; {
					sent := time.Since(began)
					ok, answer, err := a.request(f.t.Context(), address, tool, arguments)
					decided = true
					switch {
					case err != nil:
						f.t.Error(err)
					case ok:
						passed.add(pass{sent, time.Since(began)})
					case strings.Contains(answer, "QUOTA_EXCEEDED"):
					case strings.Contains(answer, "UNAVAILABLE") && f.t.Context().Err() == nil:
						undecided.Add(1) // a lease has lapsed
						decided = false
					default:
						f.t.Errorf("%s: %s", tool, answer)
					}
				}
			}
		})
	}
	g.Wait()
	return passed, int(undecided.Load())
}

// request calls a tool, or discovers if there is none.
func (a agent) request(ctx context.Context, address, tool, arguments string) (done bool, answer string, err error) {
	if tool == "" {
		return a.discover(ctx, address)
	}
	return a.call(ctx, address, tool, arguments)
}

func TestLimitsByAddressHoldThroughThreeEdgesBehindAFront(t *testing.T) {
	t.Parallel()
	f := newFrontage(t, frontRules, "edge=3,quota=3")
	key := f.i.Keys["analyst"]
	began := time.Now()
	one := f.through(func(int) string { return "198.51.100.7" })
	if p, _ := f.admitted("summarize_logs", `{"source":"app.log"}`, 30, one, key); len(p.all) != 5 && time.Since(began) < time.Minute {
		t.Errorf("30 summaries at once through the front, for one address: %d of 5 a minute passed", len(p.all))
	}
	for _, tt := range []struct {
		name string
		to   route
		want int
	}{
		{"one IPv4 address, with forged entries of its own", one, 12},
		{"another address has its own count", f.through(func(int) string { return "198.51.100.8" }), 12},
		{"addresses of one IPv6 /64", f.through(func(n int) string { return fmt.Sprintf("2001:db8:1:2::%x", n+1) }), 12},
		{"addresses of two IPv6 /64s", f.through(func(n int) string { return fmt.Sprintf("2001:db8:1:%x::1", 3+n%2) }), 24},
		{"at the edges themselves, whatever they claim to come from", f.past, 12},
	} {
		if p, _ := f.admitted("echo", `{"text":"x"}`, 60, tt.to, key); len(p.all) != tt.want {
			t.Errorf("%s: %d of 60 calls passed, want %d", tt.name, len(p.all), tt.want)
		}
	}
}

// demoRules are those that hold without a configuration. The node bears a busy
// machine.
const demoRules = `
roles:
  edge: {trusted_proxies: [127.0.0.2]}
  quota: {cluster: {lease: 10s, patience: 5s}}
`

// The rules of the demo, of which edges have leases where a request is no call.
func TestTheRulesOfTheDemoHoldThroughThreeEdgesBehindAFront(t *testing.T) {
	t.Parallel()
	f := newFrontage(t, demoRules, "edge=3")
	conn, err := (&operator{state: f.i.StateDir}).dial("auth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	// Two keys each, for one has a limit of its own.
	made := 0
	keys := func() []string {
		var two []string
		for range 2 {
			made++
			_, text := createKey(t, authv1.NewKeyServiceClient(conn), fmt.Sprint("front-", made), "analyst")
			two = append(two, text)
		}
		return two
	}
	at := func(address string) route { return f.through(func(int) string { return address }) }
	inOne64 := func(n int) string { return fmt.Sprintf("2001:db8:1:2::%x", n+1) }
	in64s := func(n int) string { return fmt.Sprintf("2001:db8:1:%x::%x", 3+n%2, n+1) }
	for _, tt := range []struct {
		name, tool, arguments string
		requests              int
		to                    route
		want                  int // a minute
		leases                bool
	}{
		{"summaries for one address", "summarize_logs", `{"source":"app.log"}`, 30, at("198.51.100.7"), 5, false},
		{"summaries for one IPv6 /64", "summarize_logs", `{"source":"app.log"}`, 30, f.through(inOne64), 5, false},
		{"summaries for two IPv6 /64s", "summarize_logs", `{"source":"app.log"}`, 30, f.through(in64s), 10, false},
		{"summaries at the edges themselves, whatever they claim to come from", "summarize_logs", `{"source":"app.log"}`, 30, f.past, 5, false},
		{"calls from one address", "echo", `{"text":"x"}`, 180, at("198.51.100.8"), 120, false},
		{"requests from one address", "", "", 1000, at("198.51.100.9"), 600, true},
		{"requests from one IPv6 address", "", "", 1000, at("2001:db8:1:9::1"), 600, true},
		{"requests from one IPv6 /64", "", "", 1000, f.through(inOne64), 600, false}, // for a lease is of one address
		{"requests at the edges themselves, whatever they claim to come from", "", "", 1000, f.past, 600, true},
	} {
		before, began := f.leased(), time.Now()
		p, again := f.admitted(tt.tool, tt.arguments, tt.requests, tt.to, keys()...)
		took, leased := time.Since(began), f.leased()-before
		if n := p.mostIn(time.Minute); n > tt.want {
			t.Errorf("%s: %d have passed in a minute, %d is the limit", tt.name, n, tt.want)
		}
		if took < time.Minute && len(p.all) < tt.want-again {
			t.Errorf("%s: %d of %d have passed, want %d; %d had no decision at first", tt.name, len(p.all), tt.requests, tt.want, again)
		}
		if (leased > 0) != tt.leases {
			t.Errorf("%s: %d have passed by leases", tt.name, leased)
		}
		t.Logf("%s: %d of %d have passed, %d by leases", tt.name, len(p.all), tt.requests, leased)
	}
}

// leased is how many checks the edges have let pass by leases.
func (f *frontage) leased() (n int) {
	for _, p := range f.i.Processes {
		if strings.HasPrefix(p.Name, "edge-") {
			n += checksLeased(f.t, p.AdminURL)
		}
	}
	return n
}
