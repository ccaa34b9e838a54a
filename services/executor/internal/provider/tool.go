package provider

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// Tool is a tool of a provider. It implements [tool.Backend], and nothing in it
// changes.
type Tool struct {
	// Face is the tool as it is known here.
	tool.Face
	// Offered is the tool by the name that it is known by here, and for the rest
	// as its provider says. This is what a person approves: what the operator
	// wants of it is not in it.
	Offered tool.Face

	remote  string // the name that its provider knows
	in, out *jsonschema.Schema
	check   *rules.Checker
}

func (r *reader) newTool(d *providerv1.ToolDefinition) (*Tool, error) {
	name, err := r.names.Tool(d.GetName())
	if err != nil {
		return nil, err
	}
	t := &Tool{remote: d.GetName(), check: r.check}
	if t.in, err = jsonschema.Compile(d.GetInputSchema()); err != nil {
		return nil, fmt.Errorf("input schema: %w", err)
	}
	if !t.in.IsObject() {
		return nil, errors.New("input schema: the root must be of type object")
	}
	if len(d.GetOutputSchema()) > 0 {
		if t.out, err = jsonschema.Compile(d.GetOutputSchema()); err != nil {
			return nil, fmt.Errorf("output schema: %w", err)
		}
	}
	offered := proto.CloneOf(d)
	offered.Name = name
	if offered.Options == nil {
		offered.Options = &toolv1.Tool{}
	}
	// Both are about RPCs.
	offered.Options.Name, offered.Options.Stream = "", toolv1.Stream_STREAM_UNSPECIFIED
	if t.Offered, err = tool.NewFace(r.service, offered); err != nil {
		return nil, err
	}
	t.Face, err = tool.NewFace(r.service, r.names.Classify(d.GetName(), offered))
	return t, err
}

// Decode implements [tool.Backend]. The request is a [providerv1.CallToolRequest].
func (t *Tool) Decode(arguments []byte) (proto.Message, []*executorv1.Violation, error) {
	wrong, err := t.in.CheckArguments(arguments)
	if err != nil || len(wrong) > 0 {
		return nil, wrong, err
	}
	return &providerv1.CallToolRequest{Name: t.remote, Arguments: arguments}, nil, nil
}
