package executor

import (
	"google.golang.org/protobuf/types/descriptorpb"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// Define returns the tools that an executor makes of a service's files, as models
// see them, and why it makes none of some RPCs that are marked as tools. The
// error is about the files as a whole.
func Define(service string, files *descriptorpb.FileDescriptorSet) (tools []*providerv1.ToolDefinition, refused []error, err error) {
	set, err := protoset.Build(files)
	if err != nil {
		return nil, nil, err
	}
	built, refused := tool.Build(service, set)
	for _, t := range built {
		tools = append(tools, t.Definition)
	}
	return tools, refused, nil
}
