package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
)

// checkTimeout bounds a readiness check.
const checkTimeout = time.Second

// health knows whether the process is ready, and what keeps it from being so.
type health struct {
	draining atomic.Bool // the process has been told to stop
	refusing atomic.Bool // and takes no calls any more

	mu     sync.Mutex
	checks map[string]func(context.Context) error // by "role/name"
}

func newHealth() *health {
	return &health{checks: make(map[string]func(context.Context) error)}
}

func (h *health) add(role, name string, check func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks[role+"/"+name] = check
}

// status runs the checks of a role, or all if role is empty, and returns each
// one's error or nil.
func (h *health) status(ctx context.Context, role string) map[string]error {
	h.mu.Lock()
	checks := maps.Clone(h.checks)
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	type answer struct {
		name string
		err  error
	}
	answers := make(chan answer, len(checks))
	out := make(map[string]error)
	for name, check := range checks {
		if role != "" && !strings.HasPrefix(name, role+"/") && !strings.HasPrefix(name, "process/") {
			continue
		}
		out[name] = errors.New("did not answer in time")
		go func() { answers <- answer{name, check(ctx)} }() // ends soon after ctx, see Env.Ready
	}
	for range out {
		select {
		case a := <-answers:
			out[a.name] = a.err
		case <-ctx.Done():
		}
	}
	return out
}

// await returns nil when the checks of a role pass, or all if role is empty, and
// the context's error if that is first.
func (h *health) await(ctx context.Context, role string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ready(h.status(ctx, role)) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func ready(status map[string]error) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(status)) {
		if err := status[name]; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// grpcHealth answers the gRPC health protocol for a role.
type grpcHealth struct {
	grpc_health_v1.UnimplementedHealthServer
	health *health
	role   string
}

// Check implements [grpc_health_v1.HealthServer]. The service in the request does
// not matter: a role is ready as a whole. A process that is told to stop serves
// until it takes no more calls.
func (g grpcHealth) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	s := grpc_health_v1.HealthCheckResponse_SERVING
	if g.health.refusing.Load() || ready(g.health.status(ctx, g.role)) != nil {
		s = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	return &grpc_health_v1.HealthCheckResponse{Status: s}, nil
}

// admin serves what operators and their systems look at. It has no
// authentication: its address is for the inside only.
func (h *health) admin(version string, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.HandleFunc("GET /healthz", h.readyz)
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"version": version}) // the client went away
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return mux
}

// readyz answers 200 when every check passes, else 503; "?verbose" lists them.
func (h *health) readyz(w http.ResponseWriter, r *http.Request) {
	status := h.status(r.Context(), "")
	if h.draining.Load() {
		status["process/draining"] = errors.New("the process is stopping")
	}
	err := ready(status)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if r.URL.Query().Has("verbose") || err != nil {
		for _, name := range slices.Sorted(maps.Keys(status)) {
			if status[name] != nil {
				fmt.Fprintf(w, "[-] %s: %v\n", name, status[name])
			} else {
				fmt.Fprintf(w, "[+] %s\n", name)
			}
		}
		return
	}
	fmt.Fprintln(w, "ok")
}
