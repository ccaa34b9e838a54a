package edge

import (
	"context"
	"errors"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/seal"
)

// Role is the edge as a process plays it. It serves no gRPC, so it is a front:
// stopped first, and left to finish what is in flight.
var Role = app.Role{Name: "edge", New: newRole}

func newRole(env *app.Env) (app.Service, error) {
	cfg := DefaultConfig()
	if err := env.Config(&cfg); err != nil {
		return nil, err
	}
	auth, err1 := env.Conn("auth")
	quota, err2 := env.Conn("quota")
	executor, err3 := env.Conn("executor")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	keys, err := stateKeys(cfg.StateKeyFiles, env)
	if err != nil {
		return nil, err
	}
	s, err := New(Options{
		Config: cfg, Auth: authv1.NewAuthServiceClient(auth), Quota: quotav1.NewQuotaServiceClient(quota),
		Executor: executorv1.NewExecutorServiceClient(executor), Audit: env.Audit,
		Notices: BusNotices(env.Bus, env.Log), Policies: BusPolicies(env.Bus, env.Log),
		Peers: BusPeers(env.Bus, env.Log), Sessions: BusSessions(env.Bus), Rounds: BusRounds(env.Bus), Keys: keys,
		Version: env.Version, Listen: env.Listen,
		Log: env.Log, Tracer: env.Tracer, Meter: env.Meter,
	})
	if err != nil {
		return nil, err
	}
	env.Ready("serving", s.Serving)
	env.Ready("auth", peerReady(auth))
	env.Ready("quota", peerReady(quota))
	env.Ready("executor", peerReady(executor))
	return s, nil
}

// stateKeys reads the configured keys. Only where none is configured it makes
// one, so that a misspelt path is an error and not a new key.
func stateKeys(files []string, env *app.Env) (*seal.Keys, error) {
	if len(files) > 0 {
		return seal.Load(files, false, env.Log)
	}
	return seal.Load([]string{filepath.Join(env.StateDir, "secrets", "edge.key")}, true, env.Log)
}

// peerReady asks a peer by the gRPC health protocol. A role in this process does
// not speak it, and reports on its own.
func peerReady(conn grpc.ClientConnInterface) func(context.Context) error {
	health := grpc_health_v1.NewHealthClient(conn)
	return func(ctx context.Context) error {
		resp, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		switch {
		case status.Code(err) == codes.Unimplemented:
			return nil
		case err != nil:
			return errors.New("does not answer")
		case resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
			return errors.New("is not ready")
		}
		return nil
	}
}
