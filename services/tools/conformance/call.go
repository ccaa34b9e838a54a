package conformance

import (
	"encoding/json"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// step is the time between two messages of a call, which the suite asks for so
// that they do not arrive as one.
const step = 50 * time.Millisecond

// call is one round of a call of a tool.
type call struct {
	provider *Provider
	req      *providerv1.CallToolRequest
	stream   grpc.ServerStreamingServer[providerv1.CallToolResponse]
	answers  answers
}

// arguments reads the arguments, which the executor has checked by the schema.
func (c *call) arguments(v any) error {
	if err := json.Unmarshal(c.req.GetArguments(), v); err != nil {
		return fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "the arguments do not fit the tool").Because(err)
	}
	return nil
}

// wait lets one step pass, unless the call is cancelled.
func (c *call) wait() error {
	t := time.NewTimer(step)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.stream.Context().Done():
		return c.stream.Context().Err()
	}
}

// progress reports that a part of 100 is done, to a client that wants to know.
func (c *call) progress(done float64) error {
	if !c.req.GetWantsProgress() {
		return nil
	}
	return c.stream.Send(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Progress{
		Progress: &providerv1.Progress{Progress: done, Total: proto.Float64(100)},
	}})
}

// log sends a message of level info, to a client that wants such.
func (c *call) log(message string) error {
	levels := []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}
	from := slices.Index(levels, c.req.GetLogLevel())
	if from < 0 || from > slices.Index(levels, "info") {
		return nil
	}
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return c.stream.Send(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Notice{
		Notice: &providerv1.Notice{Level: "info", Logger: "conformance", Data: data},
	}})
}

// result ends a call with content.
func result(content ...*providerv1.Content) (*providerv1.CallToolResponse, error) {
	return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Result{
		Result: &providerv1.ToolResult{Content: content},
	}}, nil
}

// say ends a call with a text.
func say(text string) (*providerv1.CallToolResponse, error) { return result(textContent(text)) }
