package auth_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// quiet is a store that answers, and whose watch can stand and tell nothing.
type quiet struct {
	*store
	silent atomic.Bool
}

// Watch implements [auth.Store].
func (q *quiet) Watch(ctx context.Context, bucket bus.Bucket, on func(bus.Entry), synced func(bool)) error {
	return q.store.Watch(ctx, bucket, func(e bus.Entry) {
		if !q.silent.Load() {
			on(e)
		}
	}, synced)
}

// A watch that has silently ended is found out, whatever the store answers
// (fails closed).
func TestAWatchThatTellsNothingIsFoundOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{store: newStore(t)}
		here := &house{store: q.store}
		var err error
		here.service, err = auth.New(auth.DefaultConfig(), auth.Deps{
			Store: q, Audit: new(ledger), StateDir: q.dir,
			Notify: new(notices).add, NotifyPolicies: new(notices).addPolicies,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- here.service.Run(ctx) }()
		for range 4 {
			<-q.watched
		}
		here.auth = authv1.NewAuthServiceClient(rpctest.Serve(t, here.service.Register))
		there := open(t, q.store, nil)
		id, text := there.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
		time.Sleep(time.Hour)
		here.wantReady(t, "after a quiet hour", text, true)

		q.silent.Store(true)
		if _, err := there.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
		revoked := time.Now()
		for here.service.KeysReady(t.Context()) == nil && time.Since(revoked) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if late := time.Since(revoked); late > auth.DefaultConfig().StaleAfter+10*time.Millisecond {
			t.Errorf("a revoked key is accepted for %v, the bound is %v", late, auth.DefaultConfig().StaleAfter)
		}
		here.wantReady(t, "after the bound", text, false)

		q.silent.Store(false)
		time.Sleep(5 * time.Second)
		here.wantReady(t, "when it tells again", text, true)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
