package toolkit

import (
	"context"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// callerKey names gRPC metadata of a call to a tool: a serialized
// sallyport.auth.v1.Principal.
const callerKey = "sallyport-caller-bin"

// WithCaller returns a context in which a tool that is called gets to know for
// whom: the id, the tenant and the roles of p, and nothing else of it. The
// executor uses it.
func WithCaller(ctx context.Context, p *authv1.Principal) context.Context {
	caller, ok := told(p)
	if !ok {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, callerKey, caller)
}

// told is what a tool gets to know of a principal. It returns false if that is not valid
// UTF-8: a tool then answers as to nobody.
func told(p *authv1.Principal) (string, bool) {
	b, err := proto.Marshal(&authv1.Principal{Id: p.GetId(), Tenant: p.GetTenant(), Roles: p.GetRoles()})
	return string(b), err == nil
}

// CallerOf returns for whom a tool is answering: who was authenticated at the
// edge, as the executor has read it from the grant. Only the executor can call a
// tool service, so it can be relied on to decide what of its data a tool shows.
// It is nil where the tool was called without; nobody may be taken for somebody
// then.
func CallerOf(ctx context.Context) *authv1.Principal {
	v := metadata.ValueFromIncomingContext(ctx, callerKey)
	if len(v) != 1 {
		return nil
	}
	p := new(authv1.Principal)
	if err := proto.Unmarshal([]byte(v[0]), p); err != nil || p.GetId() == "" {
		return nil
	}
	return p
}
