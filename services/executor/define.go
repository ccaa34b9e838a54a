package executor

import (
	"google.golang.org/protobuf/types/descriptorpb"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// Defined is a tool that an executor makes of an RPC.
type Defined struct {
	// Method is "/package.Service/Method".
	Method string
	// Definition is what models see, before names are joined.
	Definition *providerv1.ToolDefinition
}

// Define returns the tools that an executor makes of a service's files, and why it
// makes none of some RPCs that are marked as tools. The error is about the files as
// a whole.
func Define(service string, files *descriptorpb.FileDescriptorSet) (tools []Defined, refused []error, err error) {
	set, err := protoset.Build(files)
	if err != nil {
		return nil, nil, err
	}
	built, refused := tool.Build(service, set)
	for _, t := range built {
		tools = append(tools, Defined{t.Method(), t.Definition})
	}
	return tools, refused, nil
}
