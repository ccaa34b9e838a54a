package tool_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// parrot answers with the request.
type parrot struct{ grpc.ClientConnInterface }

func (parrot) Invoke(_ context.Context, _ string, args, reply any, _ ...grpc.CallOption) error {
	raw, err := proto.Marshal(args.(proto.Message))
	if err != nil {
		return err
	}
	return proto.Unmarshal(raw, reply.(proto.Message))
}

// A result satisfies the output schema, and what a model reads in a result it
// can send back as arguments.
func TestResultsKeepTheirSchema(t *testing.T) {
	t.Parallel()
	cook := tooltest.Tools(t, "kitchen")["cook_dish"]
	output := resolve(t, cook.Definition.GetOutputSchema())
	var root map[string]any
	if err := json.Unmarshal(cook.Definition.GetInputSchema(), &root); err != nil {
		t.Fatal(err)
	}
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	good := 0
	for range 5 * rounds {
		arguments, err := json.Marshal(g.value(root, root, 0))
		if err != nil {
			t.Fatal(err)
		}
		req, wrong, err := cook.Decode(arguments)
		if err != nil || len(wrong) > 0 {
			continue
		}
		good++
		answer, err := cook.Invoke(t.Context(), parrot{}, req, &tool.Call{Limit: 1 << 20})
		if err != nil {
			t.Fatalf("Invoke with %s: %v", arguments, err)
		}
		result := answer.JSON
		var v any
		if err := json.Unmarshal(result, &v); err != nil {
			t.Fatal(err)
		}
		if err := output.Validate(v); err != nil {
			t.Errorf("the result %s: %v", result, err)
		}
		if again, wrong, err := cook.Decode(result); err != nil || !proto.Equal(req, again) {
			t.Errorf("the result %s as arguments: %v, %v", result, wrong, err)
		}
	}
	if good < 100 {
		t.Errorf("%d calls do not show much", good)
	}
}

// refusing is a connection that cannot be used.
type refusing struct{ grpc.ClientConnInterface }

func (refusing) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Unavailable, "connection refused")
}

func TestInvokeTellsWhatWasNotSent(t *testing.T) {
	t.Parallel()
	echo := tooltest.Tools(t, "basics")["echo"]
	req, _, err := echo.Decode([]byte(`{"text":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := echo.Invoke(t.Context(), refusing{}, req, &tool.Call{Limit: 1 << 20}); !errors.Is(err, tool.ErrNotSent) {
		t.Errorf("Invoke: %v, want %v", err, tool.ErrNotSent)
	}
}
