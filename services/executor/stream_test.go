package executor_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// kitchen serves the streams of kitchen.v1.KitchenService, for which there is
// no generated code: each sends the given messages, then fails if told to.
func kitchen(t *testing.T, messages []string, fail error) func(grpc.ServiceRegistrar) {
	t.Helper()
	set, err := protoset.Build(tooltest.Image(t, "kitchen"))
	if err != nil {
		t.Fatal(err)
	}
	service := set.Services()[0]
	desc := &grpc.ServiceDesc{ServiceName: string(service.FullName()), HandlerType: (*any)(nil)}
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		if !m.IsStreamingServer() {
			continue
		}
		desc.Streams = append(desc.Streams, grpc.StreamDesc{
			StreamName: string(m.Name()), ServerStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return play(m, stream, messages, fail) },
		})
	}
	return func(r grpc.ServiceRegistrar) { r.RegisterService(desc, desc) }
}

func play(m protoreflect.MethodDescriptor, stream grpc.ServerStream, messages []string, fail error) error {
	if err := stream.RecvMsg(dynamicpb.NewMessage(m.Input())); err != nil {
		return err
	}
	for _, text := range messages {
		out := dynamicpb.NewMessage(m.Output())
		if err := protojson.Unmarshal([]byte(text), out); err != nil {
			return err
		}
		if err := stream.SendMsg(out); err != nil {
			return err
		}
	}
	return fail
}

func TestStreams(t *testing.T) {
	t.Parallel()
	large := fmt.Sprintf(`{"items":[%q]}`, strings.Repeat("x", 900))
	tests := []struct {
		name, tool   string
		messages     []string
		fail         error
		quiet        bool // the caller wants no progress
		want         string
		wantProgress []float64
		wantReason   auditv1.Reason
	}{
		{"the last message is the result", "count_up", []string{`{"n":1}`, `{"n":2}`, `{"n":3}`}, nil, false, `{"n":3}`, []float64{1, 2}, 0},
		{"progress is only for who wants it", "count_up", []string{`{"n":1}`, `{"n":2}`}, nil, true, `{"n":2}`, nil, 0},
		{"one message is a result", "count_up", []string{`{"n":9}`}, nil, false, `{"n":9}`, nil, 0},
		{"no message is none", "count_up", nil, nil, false, "", nil, auditv1.Reason_REASON_RESULT_INVALID},
		{"a stream that breaks has no result", "count_up", []string{`{"n":1}`, `{"n":2}`}, errors.New("x"), false, "", []float64{1}, auditv1.Reason_REASON_TOOL_ERROR},
		{"parts are put together", "collect_parts", []string{`{"items":["a"]}`, `{"items":["b"],"total":1}`, `{"total":2}`}, nil, false, `{"items":["a","b"],"total":2}`, nil, 0},
		{"parts have one limit together", "collect_parts", []string{large, large, large, large, large, large}, nil, false, "", nil, auditv1.Reason_REASON_RESULT_TOO_LARGE},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *executor.Config) { c.MaxResultBytes = 1024 })
			s.serve("kitchen:1", kitchen(t, tt.messages, tt.fail))
			s.announce("kitchen", "1", "kitchen:1", tooltest.Image(t, "kitchen"), "collect_parts", "cook_dish", "count_up", "unrated")
			req := granted(t, tt.tool, `{"n":1}`)
			req.WantsProgress = !tt.quiet
			got, progress, err := s.call(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.GetResult().GetStructured()) != tt.want || got.GetRefusal().GetReason() != tt.wantReason {
				t.Errorf("Call = %v", got)
			}
			if diff := cmp.Diff(tt.wantProgress, progress); diff != "" {
				t.Errorf("progress (-want +got):\n%s", diff)
			}
		})
	}
}
