package executor_test

import (
	"context"
	"slices"
	"testing"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// A tool that calls others must be able to say in whose name, or a circle of
// them would never meet its budget.
func TestToolIsToldOfItsTaskAndItsCaller(t *testing.T) {
	t.Parallel()
	s := start(t)
	told := make(chan toolkit.Chain, 1)
	callers := make(chan *authv1.Principal, 1)
	s.customers(func(ctx context.Context) error {
		told <- toolkit.ChainOf(ctx)
		callers <- toolkit.CallerOf(ctx)
		return nil
	})
	var digest []byte
	for _, tool := range s.wait("delete_customer_account", "get_customer") {
		if tool.GetDefinition().GetName() == "delete_customer_account" {
			digest = tool.GetDigest()
		}
	}
	req := granted(t, "delete_customer_account", `{"customer_id":7}`, func(g *authv1.Grant) {
		g.ToolDigest, g.DecisionId = digest, "d_"+t.Name()
		g.Origin.ContextId, g.Origin.Hops = "task:7", 2
	})
	if _, _, err := s.call(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got, want := <-told, (toolkit.Chain{Context: "task:7", Hops: 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	caller := <-callers
	if caller.GetId() != "key:7Xk2" || caller.GetTenant() != "acme" || !slices.Equal(caller.GetRoles(), []string{"admin"}) {
		t.Errorf("got caller %v, want that of the grant", caller)
	}
}
