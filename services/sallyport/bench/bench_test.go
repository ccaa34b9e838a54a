package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDrive(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		handler  http.Handler
		clients  int
		requests int
		want     int
		wantErr  string
	}{
		{name: "the bare server answers every request", handler: bare(), clients: 4, requests: 100, want: 100},
		{name: "the SDK's server answers every request", handler: sdk(), clients: 2, requests: 20, want: 20},
		{
			name: "a tool's error is not a measurement", clients: 1, requests: 5, wantErr: "not the right answer",
			handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, `{"result":{"content":[{"text":"`+marker+`"}],"isError":true}}`)
			}),
		},
		{
			name: "a refusal is not a measurement", clients: 1, requests: 5, wantErr: "429",
			handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, marker, http.StatusTooManyRequests) }),
		},
	}
	for _, tt := range tests {
		for _, era := range []string{eraModern, eraLegacy} {
			t.Run(tt.name+", "+era, func(t *testing.T) {
				t.Parallel()
				mux := http.NewServeMux()
				mux.Handle("/mcp", tt.handler)
				srv := httptest.NewServer(mux)
				t.Cleanup(srv.Close)
				address := strings.TrimPrefix(srv.URL, "http://")
				got, err := drive(t.Context(), load{address, toolCall(era, address, "key"), tt.clients, tt.requests, 30 * time.Second})
				if tt.wantErr != "" {
					if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
						t.Fatalf("drive: got error %v, want %q in it", err, tt.wantErr)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if len(got.latencies) != tt.want {
					t.Errorf("answers: got %d, want %d", len(got.latencies), tt.want)
				}
			})
		}
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	for _, name := range []string{serveBare, serveSDK, serveEdge} {
		t.Run(name+" tells where it is, counts its memory, and ends with its input", func(t *testing.T) {
			t.Parallel()
			stdin, stop := io.Pipe()
			stdout, said := io.Pipe()
			ended := make(chan error, 1)
			go func() { ended <- serve(t.Context(), name, stdin, said) }()
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var at addresses
			if err := json.Unmarshal([]byte(line), &at); err != nil {
				t.Fatal(err)
			}
			if _, err := drive(t.Context(), load{at.MCP, toolCall(eraModern, at.MCP, benchKey), 2, 20, 30 * time.Second}); err != nil {
				t.Errorf("it does not serve the load: %v", err)
			}
			s := server{processes: []process{{name, os.Getpid(), "http://" + at.Admin}}}
			got, err := s.spent(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.allocs <= 0 || got.bytes <= got.allocs || len(got.cpu) != 1 {
				t.Errorf("spent: got %+v, want allocations, more bytes than those, and the CPU time of one process", got)
			}
			if err := errors.Join(stop.Close(), <-ended); err != nil {
				t.Errorf("serve: %v", err)
			}
			if conn, err := net.Dial("tcp", at.MCP); err == nil {
				_ = conn.Close()
				t.Error("it still listens")
			}
		})
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	const rest = " S 1 2 3 0 -1 4194560 100 0 0 0 150 25 7 7 20 0 1 0 100 1000 10 18446744073709551615"
	tests := []struct {
		name    string
		content string
		want    time.Duration
		wantErr bool
	}{
		{name: "user and system time are added up", content: "42 (sallyport)" + rest, want: 1750 * time.Millisecond},
		{name: "a name may hold spaces and parentheses", content: "42 (a) b) 9 (c)" + rest, want: 1750 * time.Millisecond},
		{name: "too few fields", content: "42 (x) S 1 2 3", wantErr: true},
		{name: "nothing", wantErr: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseStat([]byte(tt.content))
			if (err != nil) != tt.wantErr || got != tt.want {
				t.Errorf("parseStat: got %v, %v, want %v, error %t", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestParseMetrics(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		page      string
		want      [2]float64
		wantError bool
	}{
		{
			name: "finds both among others",
			page: "# HELP go_memstats_mallocs_total x\ngo_memstats_mallocs_total 1.5e+06\ngo_memstats_alloc_bytes 7\ngo_memstats_alloc_bytes_total 2e+09\n",
			want: [2]float64{1.5e6, 2e9},
		},
		{name: "one is missing", page: "go_memstats_mallocs_total 1\n", wantError: true},
		{name: "not a number", page: "go_memstats_mallocs_total x\ngo_memstats_alloc_bytes_total 1\n", wantError: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			allocs, size, err := parseMetrics(strings.NewReader(tt.page))
			if (err != nil) != tt.wantError {
				t.Fatalf("parseMetrics: got error %v, want one: %t", err, tt.wantError)
			}
			if got := [2]float64{allocs, size}; !tt.wantError && got != tt.want {
				t.Errorf("parseMetrics: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	all := []contestant{{name: "bare"}, {name: "ours"}}
	results := map[string][]sample{
		rowKey("bare", 1): {{rate: 10, p50: 1, p99: 2, cpu: 20, allocs: 3, bytes: 4}},
		rowKey("ours", 1): {{cpu: 90}, {cpu: 10}, {cpu: 50}},
		rowKey("ours", 16): {
			{cpu: 30, processes: []share{{"a", 10}, {"b", 20}}},
			{cpu: 50, processes: []share{{"a", 10}, {"b", 40}}},
		},
	}
	var b bytes.Buffer
	if err := report(&b, options{rounds: 3, era: eraModern}, calls(all), results); err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for _, line := range strings.Split(b.String(), "\n")[4:] {
		if line != "" {
			got = append(got, strings.Fields(line))
		}
	}
	want := [][]string{
		{"bare", "1", "10", "1", "2", "20.0", "(20-20)", "3", "4", "1.0"},
		{"ours", "1", "0", "0", "0", "50.0", "(10-90)", "0", "0", "2.5"},
		{"ours", "16", "0", "0", "0", "40.0", "(30-50)", "0", "0", "-"},
		strings.Fields("ours, 16 clients, CPU µs/call by process: b 30, a 10"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	tests := []struct {
		name   string
		values []time.Duration
		q      float64
		want   time.Duration
	}{
		{"half of a hundred", hundred, 0.5, 50},
		{"99 of a hundred", hundred, 0.99, 99},
		{"all", hundred, 1, 100},
		{"one value is every quantile", hundred[6:7], 0.5, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := quantile(tt.values, tt.q); got != tt.want {
				t.Errorf("quantile: got %d, want %d", got, tt.want)
			}
		})
	}
}

// TestListsAreCounted: a list that lacks tools, or has too many, is no measurement.
func TestListsAreCounted(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat(listed+"{}", n))
		}))
		t.Cleanup(srv.Close)
		address := strings.TrimPrefix(srv.URL, "http://")
		list := request{text: post(eraModern, address, "key", "tools/list", "", ""), mark: listed, count: 2}
		_, err := drive(t.Context(), load{address, list, 1, 3, 30 * time.Second})
		if got, want := err == nil, n == 2; got != want {
			t.Errorf("%d tools where there should be 2: got %v", n, err)
		}
	}
}

// FuzzAnswer: whatever a server answers, the client returns, and takes nothing
// for an echo that has no marker.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhello from the bench"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"))
	f.Add([]byte("\n\n\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		c := client{conn: discard{}, r: bufio.NewReader(bytes.NewReader(answer))}
		if err := c.call(request{mark: marker}); err == nil && !bytes.Contains(answer, []byte(marker)) {
			t.Errorf("call: %q passes for the echo", answer)
		}
	})
}

// discard is a connection that takes everything.
type discard struct{ net.Conn }

func (discard) Write(b []byte) (int, error) { return len(b), nil }
