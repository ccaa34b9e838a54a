//go:build cluster

package main

import (
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
)

// frontAddress is where the front calls from. The edges believe what it says of
// its clients, and nobody else.
const frontAddress = "127.0.0.2"

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

// roundRobin starts a front that sends each request to the next edge.
func roundRobin(t *testing.T, edges []string) *httptest.Server {
	t.Helper()
	var next atomic.Int64
	transport := &http.Transport{
		DialContext:         (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(frontAddress)}}).DialContext,
		MaxIdleConnsPerHost: 64,
	}
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
	t.Cleanup(func() {
		front.Close()
		transport.CloseIdleConnections()
	})
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

func TestLimitsByAddressHoldThroughThreeEdgesBehindAFront(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(config, []byte(frontRules), 0o600); err != nil {
		t.Fatal(err)
	}
	i, _ := dev(t, t.TempDir(), "--config", config, "--processes", "--replicas", "edge=3,quota=3")
	var edges []string
	for _, u := range i.MCPURLs {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		edges = append(edges, parsed.Host)
	}
	if len(edges) != 3 {
		t.Fatalf("got %d edges, want 3", len(edges))
	}
	front := strings.TrimPrefix(roundRobin(t, edges).URL, "http://")
	direct := connections(t)
	// admitted makes calls at once and counts those that were answered; each is
	// made by an agent of its own.
	admitted := func(tool, arguments string, calls int, to func(n int) (agent, string)) int {
		var n atomic.Int32
		var g sync.WaitGroup
		for c := range calls {
			g.Go(func() {
				a, address := to(c)
				a.key = i.Keys["analyst"]
				for {
					done, answer, err := a.call(t.Context(), address, tool, arguments)
					switch {
					case err != nil:
						t.Error(err)
					case done:
						n.Add(1)
					case strings.Contains(answer, "QUOTA_EXCEEDED"):
					case strings.Contains(answer, "UNAVAILABLE") && t.Context().Err() == nil:
						continue // a lease has lapsed; nothing was decided
					default:
						t.Errorf("%s: %s", tool, answer)
					}
					return
				}
			})
		}
		g.Wait()
		return int(n.Load())
	}
	through := func(client func(n int) string) func(int) (agent, string) {
		return func(n int) (agent, string) {
			return agent{client: &http.Client{Transport: clientAt(client(n))}, from: fmt.Sprintf("203.0.113.%d", n)}, front
		}
	}

	began := time.Now()
	if n := admitted("summarize_logs", `{"source":"app.log"}`, 30, through(func(int) string { return "198.51.100.7" })); n != 5 && time.Since(began) < time.Minute {
		t.Errorf("30 summaries at once through the front, for one address: %d of 5 a minute passed", n)
	}
	for _, tt := range []struct {
		name string
		to   func(n int) (agent, string)
		want int
	}{
		{"one IPv4 address, with forged entries of its own", through(func(int) string { return "198.51.100.7" }), 12},
		{"another address has its own count", through(func(int) string { return "198.51.100.8" }), 12},
		{"addresses of one IPv6 /64", through(func(n int) string { return fmt.Sprintf("2001:db8:1:2::%x", n+1) }), 12},
		{"addresses of two IPv6 /64s", through(func(n int) string { return fmt.Sprintf("2001:db8:1:%x::1", 3+n%2) }), 24},
		{"at the edges themselves, whatever they claim to come from", func(n int) (agent, string) {
			return agent{client: direct, from: fmt.Sprintf("203.0.113.%d", n)}, edges[n%3]
		}, 12},
	} {
		if n := admitted("echo", `{"text":"x"}`, 60, tt.to); n != tt.want {
			t.Errorf("%s: %d of 60 calls passed, want %d", tt.name, n, tt.want)
		}
	}
}
