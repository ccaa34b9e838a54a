// Package tool makes tools of RPCs: an RPC with the option sallyport.tool.v1.tool
// has a name, a description and schemas for models, and can be called with JSON.
//
// All that can be computed once is computed when a tool is built: descriptors,
// plans, rules, schemas, the digest. What cannot be built is refused with a
// reason, one tool at a time.
package tool

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/schema"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/transcode"
)

// names is stricter than MCP: one alphabet, so that no two names look alike.
var names = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// Tool is an RPC that can be called as a tool. Nothing in it changes.
type Tool struct {
	Face

	method   string // "/package.Service/Method"
	stream   toolv1.Stream
	in, out  *transcode.Plan
	checkIn  *rules.Checker
	checkOut *rules.Checker
}

// WithFace returns the same tool under another face: a name or options that the
// operator has given it.
func (t *Tool) WithFace(f Face) *Tool {
	other := *t
	other.Face = f
	return &other
}

// Build makes the tools of all services in a set. A method that cannot be made
// a tool is left out and told of in refused.
func Build(service string, set *protoset.Set) (tools []*Tool, refused []error) {
	check, err := rules.NewChecker((&providerv1.ToolDefinition{}).ProtoReflect().Descriptor())
	if err != nil {
		return nil, []error{err}
	}
	for _, s := range set.Services() {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			options, ok := proto.GetExtension(m.Options(), toolv1.E_Tool).(*toolv1.Tool)
			if !ok || options == nil {
				continue
			}
			t, err := build(service, m, options, check)
			if err != nil {
				refused = append(refused, fmt.Errorf("%s: %w", m.FullName(), err))
				continue
			}
			tools = append(tools, t)
		}
	}
	return tools, refused
}

// Method returns the RPC, "/package.Service/Method".
func (t *Tool) Method() string { return t.method }

func build(service string, m protoreflect.MethodDescriptor, options *toolv1.Tool, check *rules.Checker) (t *Tool, err error) {
	// Descriptors and rules come from another process. If the libraries below
	// panic over them, it shall cost that process this tool and no more.
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	if m.IsStreamingClient() {
		return nil, errors.New("a stream of requests cannot be a tool")
	}
	if m.IsStreamingServer() != (options.GetStream() != toolv1.Stream_STREAM_UNSPECIFIED) {
		return nil, errors.New("the option stream must be set for a stream of responses, and only for one")
	}
	// The executor calls with its own identity. Nobody may make it call the
	// services of the system by describing them as tools.
	if owner := string(m.Parent().FullName()); strings.HasPrefix(owner, "grpc.") ||
		strings.HasPrefix(owner, "sallyport.") && !strings.HasPrefix(owner, "sallyport.tools.") {
		return nil, errors.New("a service of the system cannot be a tool")
	}
	options = proto.CloneOf(options)
	if options.GetName() == "" {
		options.Name = Snake(string(m.Name()))
	}
	if !names.MatchString(options.GetName()) {
		return nil, fmt.Errorf("name %q: must match %s", options.GetName(), names)
	}
	for _, subject := range options.GetSubjects() {
		if m.Input().Fields().ByName(protoreflect.Name(subject)) == nil {
			return nil, fmt.Errorf("subject %q: no such field", subject)
		}
	}
	t = &Tool{
		method: fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()),
		stream: options.GetStream(),
	}
	if t.checkIn, err = rules.NewChecker(m.Input()); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if t.checkOut, err = rules.NewChecker(m.Output()); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	if t.in, err = transcode.NewPlan(m.Input(), t.checkIn.Required); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if t.out, err = transcode.NewPlan(m.Output(), nil); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	input, err := schema.Input(m.Input(), t.checkIn.Required)
	if err != nil {
		return nil, fmt.Errorf("input schema: %w", err)
	}
	output, err := schema.Output(m.Output())
	if err != nil {
		return nil, fmt.Errorf("output schema: %w", err)
	}
	comment := m.ParentFile().SourceLocations().ByDescriptor(m).LeadingComments
	definition := &providerv1.ToolDefinition{
		Name: options.GetName(), Title: options.GetTitle(), Description: schema.Prose(comment),
		InputSchema: input, OutputSchema: output, Options: options,
	}
	broken, err := check.Check(definition)
	if err != nil {
		return nil, err
	}
	if len(broken) > 0 {
		return nil, fmt.Errorf("definition: %s %s", broken[0].GetPointer(), broken[0].GetMessage())
	}
	t.Face, err = NewFace(service, definition)
	return t, err
}

// Snake writes a method's name as a tool's: RunSqlQuery is run_sql_query,
// GetHTTPStatus is get_http_status.
func Snake(name string) string {
	var b strings.Builder
	in := []rune(name)
	for i, r := range in {
		if unicode.IsUpper(r) && i > 0 &&
			(!unicode.IsUpper(in[i-1]) || i+1 < len(in) && unicode.IsLower(in[i+1])) && in[i-1] != '_' {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Decode implements [Backend]. The request is a *dynamicpb.Message.
func (t *Tool) Decode(arguments []byte) (proto.Message, []*executorv1.Violation, error) {
	req, wrong := t.in.Decode(arguments)
	if len(wrong) > 0 {
		return nil, wrong, nil
	}
	wrong, err := t.checkIn.Check(req)
	if err != nil || len(wrong) > 0 {
		return nil, wrong, err
	}
	return req, nil, nil
}
