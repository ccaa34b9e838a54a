// Package toolkit is all that a tool service or a provider written in Go needs:
// one call turns a generated gRPC server into a running service that announces
// itself to the executor. Nothing else in the system has to know of it.
//
//	//go:embed descriptor.binpb
//	var image []byte
//
//	var Role = toolkit.Role("weather", image, func(env *app.Env) (app.Service, error) { … })
package toolkit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// caller is the only role that may call a tool service.
const caller = "executor"

// Role returns the role of a tool service. image is its descriptor image with
// comments: a serialized FileDescriptorSet of the service's own files, as
// `buf build --exclude-imports --path … -o descriptor.binpb` writes it. The
// service's gRPC services may be called by the executor alone.
func Role(name string, image []byte, build func(*app.Env) (app.Service, error)) app.Role {
	set := new(descriptorpb.FileDescriptorSet)
	bad := proto.Unmarshal(image, set)
	allow := map[string][]string{
		"grpc.reflection.v1.ServerReflection":      {caller},
		"grpc.reflection.v1alpha.ServerReflection": {caller},
	}
	for _, f := range set.GetFile() {
		for _, s := range f.GetService() {
			allow[f.GetPackage()+"."+s.GetName()] = []string{caller}
		}
	}
	return app.Role{Name: name, Allow: allow, Isolated: true, New: func(env *app.Env) (app.Service, error) {
		if bad != nil {
			return nil, fmt.Errorf("descriptor image: %w", bad)
		}
		if len(set.GetFile()) == 0 {
			return nil, errors.New("descriptor image: empty; run `make gen`")
		}
		inner, err := build(env)
		if err != nil {
			return nil, err
		}
		return newService(inner, env, &executorv1.Announcement{Descriptors: set}), nil
	}}
}

// Provider returns the role of a provider: what build returns registers a
// sallyport.provider.v1.ProviderService, which tells by itself what it has.
func Provider(name string, build func(*app.Env) (app.Service, error)) app.Role {
	allow := map[string][]string{providerv1.ProviderService_ServiceDesc.ServiceName: {caller}}
	return app.Role{Name: name, Allow: allow, Isolated: true, New: func(env *app.Env) (app.Service, error) {
		inner, err := build(env)
		if err != nil {
			return nil, err
		}
		return newService(inner, env, &executorv1.Announcement{Provider: true}), nil
	}}
}

type service struct {
	inner        app.Service
	env          *app.Env
	announcement *executorv1.Announcement // without what is only known when it runs
	leaving      chan struct{}            // closed by Leave
	leave        sync.Once
	there        atomic.Bool   // the announcement was made
	gone         chan struct{} // closed when the announcement is taken back
}

func newService(inner app.Service, env *app.Env, a *executorv1.Announcement) *service {
	s := &service{inner: inner, env: env, announcement: a, leaving: make(chan struct{}), gone: make(chan struct{})}
	env.Announced(s.announced)
	return s
}

// announced returns an error until the executor can find the service. A process
// whose readiness is waited for can then take the place of another.
func (s *service) announced(context.Context) error {
	if !s.there.Load() {
		return errors.New("the tool service has not been announced yet")
	}
	return nil
}

// Register implements [app.Service].
func (s *service) Register(r grpc.ServiceRegistrar) {
	s.inner.Register(r)
	if server, ok := r.(reflection.GRPCServer); ok {
		reflection.Register(server)
	}
}

// Run implements [app.Service]: it announces the service for as long as it runs,
// from when it is ready until it leaves.
func (s *service) Run(ctx context.Context) error {
	announcing, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-s.leaving:
			stop()
		case <-announcing.Done():
		}
	}()
	go func() {
		defer close(s.gone)
		if s.env.AwaitReady(announcing) == nil {
			s.announce(announcing)
		}
	}()
	err := s.inner.Run(ctx)
	stop()
	<-s.gone
	return err
}

// Leave implements [app.Leaver]: it takes the announcement back.
func (s *service) Leave(ctx context.Context) {
	s.leave.Do(func() { close(s.leaving) })
	select {
	case <-s.gone:
	case <-ctx.Done():
	}
}

// announce renews the announcement three times in each lease, and takes it back
// when ctx is done so that the executor need not wait for the lease to end.
func (s *service) announce(ctx context.Context) {
	instance := newInstance()
	key := s.env.Role + "." + instance
	a := s.announcement
	a.Service, a.Instance, a.Address, a.Version = s.env.Role, instance, s.env.Address(), s.env.Version
	value, err := proto.Marshal(a)
	if err != nil {
		s.env.Log.Error("the announcement cannot be written", "err", err)
		return
	}
	put := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, bus.Lease/3)
		defer cancel()
		_, err := s.env.Bus.Put(ctx, bus.Tools, key, value)
		return err
	}
	wait := 50 * time.Millisecond
	for ctx.Err() == nil {
		next := bus.Lease / 3
		if err := put(ctx); err != nil && ctx.Err() == nil {
			s.env.Log.Warn("the tool service is not announced", "err", err)
			next, wait = wait, min(2*wait, bus.Lease/3)
		} else {
			s.there.Store(true)
			wait = 50 * time.Millisecond
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.env.Bus.Delete(last, bus.Tools, key); err != nil {
		s.env.Log.Warn("the announcement could not be taken back; it ends with its lease", "err", err)
	}
}

func newInstance() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}
