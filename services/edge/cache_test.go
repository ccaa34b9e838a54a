package edge_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

func TestAuthenticationsAreRemembered(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*edge.Options)
		before func(*world) // between the second and the third request
		want   int64        // how often auth was asked in three requests
	}{
		{name: "once asked is asked", want: 1},
		{
			name:   "not without notices",
			change: func(o *edge.Options) { o.Notices = nil }, want: 3,
		},
		{
			name:   "not when the cache is off",
			change: func(o *edge.Options) { o.Config.AuthCacheSize = 0 }, want: 3,
		},
		{
			name:   "not when nothing may be kept",
			change: func(o *edge.Options) { o.Config.AuthCacheTTL = 0 }, want: 3,
		},
		{
			name:   "all is forgotten at a notice",
			before: func(w *world) { (*w.notices.changed.Load())() }, want: 2,
		},
		{
			name:   "all is forgotten when notices may have been missed",
			before: func(w *world) { w.notices.epoch.Add(1) }, want: 2,
		},
		{
			name:   "nothing is believed while notices do not arrive",
			before: func(w *world) { w.notices.dead.Store(true) }, want: 2,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *edge.Options) {
				if tt.change != nil {
					tt.change(o)
				}
			})
			for i := range 3 {
				if i == 2 && tt.before != nil {
					for w.notices.changed.Load() == nil {
						w.send(t, request{method: "server/discover"}) // until it listens
						w.auth.authenticated.Store(1)
					}
					tt.before(w)
				}
				if a := w.send(t, request{method: "server/discover"}); a.status != http.StatusOK {
					t.Fatalf("got %d: %s", a.status, a.body)
				}
			}
			if got := w.auth.authenticated.Load(); got != tt.want {
				t.Errorf("auth was asked %d times, want %d", got, tt.want)
			}
		})
	}
}

func TestARevokedCredentialIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.send(t, request{token: "good-until-called", method: "server/discover"})
	if a := w.send(t, request{token: "good-until-called"}); a.status != http.StatusUnauthorized {
		t.Fatalf("got %d, want 401: %s", a.status, a.body)
	}
	w.send(t, request{token: "good-until-called", method: "server/discover"})
	if got := w.auth.authenticated.Load(); got != 2 {
		t.Errorf("auth was asked %d times, want 2: the refusal has to clear what was remembered", got)
	}
}

func TestCredentialsAreKeptApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.send(t, request{method: "server/discover"})
	if a := w.send(t, request{method: "server/discover", token: "bad"}); a.status != http.StatusUnauthorized {
		t.Errorf("got %d for another credential, want 401", a.status)
	}
	w.send(t, request{method: "server/discover", headers: map[string]string{"Authorization": "", "X-Api-Key": "good"}})
	if got := w.auth.authenticated.Load(); got != 3 {
		t.Errorf("auth was asked %d times, want 3: the scheme is part of what was authenticated", got)
	}
}

// The notices of the real bus: live only once subscribed, and called for each.
func TestBusNotices(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	notices := edge.BusNotices(b, nil)
	if _, live := notices.Epoch(); live {
		t.Error("notices are live before anybody listens")
	}
	changed := make(chan struct{}, 8)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		notices.Listen(t.Context(), func() { changed <- struct{}{} })
	}()
	<-changed // once at the beginning: what was known before may be old
	if err := bus.Publish(t.Context(), b, bus.SubjectCredentials, &authv1.Key{Id: "7Xk2abcdef"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		t.Fatal("no notice arrived")
	}
	if _, live := notices.Epoch(); !live {
		t.Error("notices are not live although one has arrived")
	}
	t.Cleanup(func() {
		<-ended
		if _, live := notices.Epoch(); live {
			t.Error("notices are live after listening has ended")
		}
	})
}
