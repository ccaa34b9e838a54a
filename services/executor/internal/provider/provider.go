// Package provider is the executor's side of sallyport.provider.v1: it asks a
// provider what it has, hears of changes, and makes its calls.
//
// What a provider says may be anything. All of it is bounded and checked here,
// before the catalogue believes it or a caller sees it, and what breaks the
// contract costs the one thing that it is about: a tool, an answer, a listing.
// Nothing here knows of other providers, names at large, grants or records.
package provider

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
)

// Bounds on what one provider has.
const (
	MaxTools     = 1000
	MaxResources = 5000
	MaxTemplates = 500
	MaxPrompts   = 1000
	// MaxListBytes bounds each of its lists.
	MaxListBytes = 4 << 20
)

// asking bounds one question to a provider about what it has.
const asking = 5 * time.Second

// NewChecker returns the rules for all that a provider says.
func NewChecker() (*rules.Checker, error) {
	var types []protoreflect.MessageDescriptor
	for _, m := range []proto.Message{
		&providerv1.ToolDefinition{}, &providerv1.Resource{}, &providerv1.ResourceTemplate{}, &providerv1.Prompt{},
		&providerv1.CallToolResponse{}, &providerv1.ReadResourceResponse{}, &providerv1.GetPromptResponse{},
		&providerv1.CompleteResponse{}, &providerv1.WatchResponse{},
	} {
		types = append(types, m.ProtoReflect().Descriptor())
	}
	return rules.NewChecker(types...)
}

// Has says which kinds a provider has, beside tools, even if there is none just
// now.
type Has struct{ Resources, Prompts, Completion bool }

// Lists is what a provider says that it has, as it said it.
type Lists struct {
	Has       Has
	Tools     *providerv1.ListToolsResponse
	Resources *providerv1.ListResourcesResponse
	Prompts   *providerv1.ListPromptsResponse
}

// Ask asks a provider for all that it has. A list that it does not implement is
// empty.
func Ask(ctx context.Context, conn grpc.ClientConnInterface, has Has) (*Lists, error) {
	l, client, limit := &Lists{Has: has}, providerv1.NewProviderServiceClient(conn), grpc.MaxCallRecvMsgSize(MaxListBytes)
	for _, list := range []struct {
		what string
		ask  func(context.Context) error
	}{
		{"tools", func(ctx context.Context) (err error) {
			l.Tools, err = client.ListTools(ctx, &providerv1.ListToolsRequest{}, limit)
			return err
		}},
		{"resources", func(ctx context.Context) (err error) {
			l.Resources, err = client.ListResources(ctx, &providerv1.ListResourcesRequest{}, limit)
			return err
		}},
		{"prompts", func(ctx context.Context) (err error) {
			l.Prompts, err = client.ListPrompts(ctx, &providerv1.ListPromptsRequest{}, limit)
			return err
		}},
	} {
		one, cancel := context.WithTimeout(ctx, asking)
		err := list.ask(one)
		cancel()
		if err != nil && status.Code(err) != codes.Unimplemented {
			return nil, fmt.Errorf("list %s: %w", list.what, fault.Receive(err))
		}
	}
	for _, count := range []struct {
		what   string
		n, max int
	}{
		{"tools", len(l.Tools.GetTools()), MaxTools},
		{"resources", len(l.Resources.GetResources()), MaxResources},
		{"resource templates", len(l.Resources.GetTemplates()), MaxTemplates},
		{"prompts", len(l.Prompts.GetPrompts()), MaxPrompts},
	} {
		if count.n > count.max {
			return nil, fmt.Errorf("%d %s: must be at most %d", count.n, count.what, count.max)
		}
	}
	return l, nil
}

// Print is the same for lists that say the same.
func (l *Lists) Print() ([sha256.Size]byte, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%+v", l.Has)
	for _, m := range []proto.Message{l.Tools, l.Resources, l.Prompts} {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("fingerprint: %w", err)
		}
		fmt.Fprintf(h, "|%d|", len(raw))
		h.Write(raw)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
