package client

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
)

func TestAllowedAddresses(t *testing.T) {
	tests := []struct {
		name, url, address string
		private            bool
		want               bool
	}{
		{"a public one", "https://example.com/", "93.184.216.34", false, true},
		{"a public one of IPv6", "https://example.com/", "2606:2800:220:1::1", false, true},
		{"a public one without TLS", "http://example.com/", "93.184.216.34", true, false},
		{"a name that leads to this machine", "https://example.com/", "127.0.0.1", false, false},
		{"this machine by name", "http://localhost/", "127.0.0.1", false, true},
		{"this machine by address", "http://[::1]/", "::1", false, true},
		{"the name of this machine that leads elsewhere", "http://localhost/", "93.184.216.34", true, false},
		{"a private one", "https://example.com/", "10.1.2.3", false, false},
		{"a private one in IPv6 clothes", "https://example.com/", "::ffff:10.1.2.3", false, false},
		{"a private one that is allowed", "http://intern/", "10.1.2.3", true, true},
		{"one of a carrier", "https://example.com/", "100.64.0.1", false, false},
		{"one of a link", "https://example.com/", "169.254.169.254", false, false},
		{"one of a link is never allowed", "https://example.com/", "169.254.169.254", true, false},
		{"a unique local one", "https://example.com/", "fd00::1", false, false},
		{"one that stands for an IPv4 address", "https://example.com/", "64:ff9b::7f00:1", false, false},
		{"none", "https://example.com/", "0.0.0.0", true, false},
		{"all", "https://example.com/", "224.0.0.1", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			target := Target{URL: u, AllowPrivate: tt.private}
			got := allowed(netip.MustParseAddr(tt.address).Unmap(), target, Loopback(u.Hostname()))
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestHTTPClientStaysWithItsServer(t *testing.T) {
	t.Parallel()
	stolen := make(chan string, 1)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen <- r.Header.Get("X-Key") }))
	t.Cleanup(other.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/end", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("X-Key")) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)

	tests := []struct {
		name, base, path string
		want             error
	}{
		{"a redirect to another server is not followed", srv.URL, "/away", errRedirect},
		{"nor one without an end", srv.URL, "/loop", errRedirect},
		{"one within the server is", srv.URL, "/here", nil},
		{"a private address is not connected to", "https://example.com", "/end", ErrAddress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.Parse(tt.base)
			if err != nil {
				t.Fatal(err)
			}
			hc := NewHTTPClient(Target{URL: u, Headers: func() (http.Header, error) { return http.Header{"X-Key": {"secret"}}, nil }})
			defer hc.CloseIdleConnections()
			to := tt.base + tt.path
			if tt.want == ErrAddress { // as if the name had led to this machine
				to = srv.URL + tt.path
			}
			resp, err := hc.Post(to, "text/plain", nil)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			if err != nil {
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "secret" {
				t.Errorf("got %q, %v, want the credential to arrive", b, err)
			}
		})
	}
	select {
	case key := <-stolen:
		t.Errorf("another server got %q", key)
	default:
	}
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	missing := errors.New("no file")
	hc := NewHTTPClient(Target{URL: u, Headers: func() (http.Header, error) { return nil, missing }})
	if _, err := hc.Get(srv.URL + "/end"); !errors.Is(err, missing) {
		t.Errorf("without credentials: got error %v, want %v", err, missing)
	}
}
