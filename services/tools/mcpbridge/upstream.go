package mcpbridge

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

const (
	pingTimeout = 10 * time.Second
	listTimeout = 30 * time.Second
	// steady is how long a session must have lasted for the next attempt to be
	// made at once.
	steady = 30 * time.Second
)

// upstream is one server: what it has, and the sessions with it.
type upstream struct {
	cfg     Upstream
	service *Service
	log     *slog.Logger
	http    *http.Client // nil for a command
	version string
	pool    *pool

	relist chan struct{} // has room for one: something has changed
	doubt  chan struct{} // likewise: a call could not reach the server

	mu    sync.Mutex
	up    bool
	since time.Time // when it was last lost
	offer *offer    // nil until it was listed, and after it was down for long
}

func newUpstream(s *Service, cfg Upstream, version string) (*upstream, error) {
	u := &upstream{
		cfg: cfg, service: s, log: s.log.With("upstream", cfg.Name), version: version,
		relist: make(chan struct{}, 1), doubt: make(chan struct{}, 1),
	}
	u.pool = newPool(cfg, u.open)
	if cfg.URL != "" {
		var err error
		if u.http, err = cfg.httpClient(s.cfg.MaxParked); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// offering returns what the upstream has; nil if that is not known.
func (u *upstream) offering() *offer {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.offer
}

func (u *upstream) offers(o *offer) {
	u.mu.Lock()
	u.up, u.offer = true, o
	u.mu.Unlock()
	u.service.changed()
}

// forget takes back what an upstream that is still down has offered.
func (u *upstream) forget() {
	u.mu.Lock()
	up := u.up
	if !up {
		u.offer = nil
	}
	u.mu.Unlock()
	if !up {
		u.service.changed()
	}
}

// fell notes that the upstream is down, and reports whether it was up.
func (u *upstream) fell() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.up
	if was {
		u.up, u.since = false, time.Now()
	}
	return was
}

// patience is how much longer a call waits for a session.
func (u *upstream) patience() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.up {
		return patience
	}
	return patience - time.Since(u.since)
}

// open makes a session.
func (u *upstream) open(ctx context.Context) (*client.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.ConnectTimeout)
	defer cancel()
	opts := client.Options{
		Era: u.cfg.Era, MaxBytes: u.cfg.MaxResultBytes, Version: u.version, OnChange: u.noticed, Log: u.log,
	}
	if u.http != nil {
		return client.DialHTTP(ctx, u.cfg.URL, u.http, opts)
	}
	env, err := u.cfg.environment()
	if err != nil {
		return nil, err
	}
	return client.StartCommand(ctx, client.Command{Args: u.cfg.Command, Env: env, Dir: u.cfg.WorkingDir}, opts)
}

// noticed hears what the server tells without being asked.
func (u *upstream) noticed(method string, params json.RawMessage) {
	switch method {
	case "notifications/tools/list_changed", "notifications/resources/list_changed", "notifications/prompts/list_changed":
		poke(u.relist)
	case "notifications/subscriptions/acknowledged":
		// What has changed between the first look and this moment nobody told us.
		var p struct {
			Notifications struct {
				Tools     bool `json:"toolsListChanged"`
				Resources bool `json:"resourcesListChanged"`
				Prompts   bool `json:"promptsListChanged"`
			} `json:"notifications"`
		}
		if n := &p.Notifications; json.Unmarshal(params, &p) == nil && (n.Tools || n.Resources || n.Prompts) {
			poke(u.relist)
		}
	case "notifications/resources/updated":
		var p struct {
			URI string `json:"uri"`
		}
		if json.Unmarshal(params, &p) != nil || p.URI == "" || !fits(p.URI, maxURI) {
			return
		}
		// Of other upstreams' resources it has nothing to say.
		if u.service.known.Load().reader(p.URI) == u {
			u.service.watchers.tell(news{updated: []string{p.URI}})
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run keeps the upstream up until ctx is done.
func (u *upstream) run(ctx context.Context) {
	wait := u.service.cfg.BackoffMin
	forget := time.AfterFunc(time.Hour, u.forget)
	forget.Stop() // it runs from when the upstream falls
	defer forget.Stop()
	for {
		began := time.Now()
		err := u.serve(ctx)
		u.pool.close()
		if u.fell() {
			forget.Reset(u.service.cfg.Keep)
		}
		if time.Since(began) > steady+u.cfg.ConnectTimeout {
			wait = u.service.cfg.BackoffMin
		}
		pause := wait/2 + rand.N(wait/2+1)
		if ctx.Err() == nil {
			u.log.Warn("upstream is down", "err", err, "retry_in", pause)
		}
		select {
		case <-time.After(pause):
			wait = min(2*wait, u.service.cfg.BackoffMax)
		case <-ctx.Done():
			return
		}
	}
}

// serve connects and stays until the session is lost.
func (u *upstream) serve(ctx context.Context) error {
	s, err := u.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	o, err := u.list(ctx, s)
	if err != nil {
		return err
	}
	subscribing, stop := context.WithCancel(ctx)
	defer func() { stop() }()
	subscribe := func(o *offer) {
		stop()
		subscribing, stop = context.WithCancel(ctx)
		u.subscribe(subscribing, s, o)
	}
	u.pool.admit(s) // before anybody hears of what it has
	u.offers(o)
	u.log.Info("upstream is up", "modern", s.Modern(), "tools", len(o.tools), "resources", len(o.resources), "prompts", len(o.prompts))
	subscribe(o)

	check := time.NewTicker(u.service.cfg.CheckEvery)
	defer check.Stop()
	list := time.NewTicker(u.service.cfg.ListEvery)
	defer list.Stop()
	for {
		again := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Lost():
			return s.Err()
		case <-check.C:
			u.pool.tidy()
			err = u.ping(ctx, s)
		case <-u.doubt:
			err = u.ping(ctx, s)
		case <-list.C:
			again = true
		case <-u.relist:
			again = true
		}
		if err != nil {
			return err
		}
		if !again {
			continue
		}
		next, err := u.list(ctx, s)
		if err != nil {
			u.log.Warn("the upstream cannot be listed again", "err", err)
			if err := u.ping(ctx, s); err != nil {
				return err
			}
			continue
		}
		u.offers(next)
		if !equal(next.resources, o.resources) {
			subscribe(next)
		}
		o = next
		select { // what changes all the time is listed now and then
		case <-time.After(u.service.cfg.ListPause):
		case <-s.Lost():
			return s.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (u *upstream) ping(ctx context.Context, s *client.Session) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := s.Ping(ctx)
	if _, answered := errors.AsType[*client.Error](err); answered {
		return nil
	}
	return err
}

// subscribe asks to be told of changes of the listed resources.
func (u *upstream) subscribe(ctx context.Context, s *client.Session, o *offer) {
	c := s.Capabilities().Resources
	if c == nil || !c.Subscribe || u.cfg.MaxSubscriptions < 0 {
		return
	}
	var uris []string
	for _, r := range o.resources[:min(len(o.resources), u.cfg.MaxSubscriptions)] {
		uris = append(uris, r.GetUri())
	}
	ctx2, cancel := ctx, context.CancelFunc(func() {})
	if !s.Modern() {
		ctx2, cancel = context.WithTimeout(ctx, listTimeout)
	}
	defer cancel()
	if err := s.Subscribe(ctx2, uris); err != nil {
		u.log.Warn("changes of resources are not followed", "err", err)
	}
}
