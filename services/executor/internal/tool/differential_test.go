package tool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"github.com/google/jsonschema-go/jsonschema"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

const (
	seed   = 1
	rounds = 800
)

// A tool's arguments are judged three times: by the executor, by protobuf's own
// JSON with protovalidate, and by the schema that is published, with a validator
// that others wrote. The executor takes nothing that one of these refuses, and
// what it takes is the same message. What it refuses and they would take is on
// the two lists below, each with the reason.
func TestSchemaDecodeAndProtobufAgree(t *testing.T) {
	t.Parallel()
	sets := make(map[string]*descriptorpb.FileDescriptorSet)
	for _, service := range tooltest.Services {
		sets[service] = tooltest.Image(t, service)
	}
	files, err := filepath.Glob("testdata/shapes/*.proto")
	if err != nil || len(files) != 3 {
		t.Fatalf("shapes are %v, %v", files, err)
	}
	for _, file := range files {
		sets[strings.TrimSuffix(filepath.Base(file), ".proto")] = compile(t, file)
	}
	used := make(chan string, 1024)
	seen := make(chan map[string]bool)
	go func() { // ends with used
		all := make(map[string]bool)
		for u := range used {
			all[u] = true
		}
		seen <- all
	}()
	t.Run("tools", func(t *testing.T) {
		for name, set := range sets {
			for _, d := range differ(t, name, set) {
				d.used = used
				t.Run(d.tool.Name(), func(t *testing.T) { t.Parallel(); d.run(t) })
			}
		}
	})
	close(used)
	all := <-seen
	for _, e := range slices.Concat(stricter, wider, rounded) {
		if !all[e.text] {
			t.Errorf("the exception %q is not needed", e.text)
		}
	}
}

// What nobody could hold to is no tool.
func TestShapesThatAreRefused(t *testing.T) {
	t.Parallel()
	set, err := protoset.Build(compile(t, "testdata/refused.proto"))
	if err != nil {
		t.Fatal(err)
	}
	tools, refused := tool.Build("refused", set)
	if len(tools) > 0 {
		t.Errorf("got %d tools, want none", len(tools))
	}
	said := fmt.Sprint(refused)
	for _, want := range []string{
		"google.protobuf.Any cannot be in a tool's messages", "google.protobuf.NullValue cannot be in a tool's messages",
		"does not enforce min_items, max_items and unique on a list of wrappers", "compile rules",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("got errors %s, want one with %q", said, want)
		}
	}
}

// compile compiles a file of testdata.
func compile(t *testing.T, file string) *descriptorpb.FileDescriptorSet {
	t.Helper()
	find := func(path string) (protocompile.SearchResult, error) {
		if path == filepath.Base(file) {
			raw, err := os.ReadFile(file)
			return protocompile.SearchResult{Source: bytes.NewReader(raw)}, err
		}
		f, err := protoregistry.GlobalFiles.FindFileByPath(path)
		return protocompile.SearchResult{Desc: f}, err
	}
	c := protocompile.Compiler{Resolver: protocompile.ResolverFunc(find), SourceInfoMode: protocompile.SourceInfoStandard}
	files, err := c.Compile(context.WithoutCancel(t.Context()), filepath.Base(file))
	if err != nil {
		t.Fatal(err)
	}
	// The compiler has its own types for options; ours are found by a reading anew.
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protoutil.ProtoFromFileDescriptor(files[0])}})
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(raw, set); err != nil {
		t.Fatal(err)
	}
	return set
}

// difference is one tool and those that judge its arguments.
type difference struct {
	tool      *tool.Tool
	input     protoreflect.MessageDescriptor
	schema    *jsonschema.Resolved
	output    *jsonschema.Resolved // nil if results are of another type
	validator protovalidate.Validator
	used      chan<- string
}

func differ(t *testing.T, service string, files *descriptorpb.FileDescriptorSet) (all []*difference) {
	t.Helper()
	set, err := protoset.Build(files)
	if err != nil {
		t.Fatal(err)
	}
	tools, refused := tool.Build(service, set)
	for _, err := range refused {
		t.Errorf("%s: %v", service, err)
	}
	methods := make(map[string]protoreflect.MethodDescriptor)
	for _, s := range set.Services() {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			methods[fmt.Sprintf("/%s/%s", s.FullName(), m.Name())] = m
		}
	}
	for _, tl := range tools {
		m := methods[tl.Method()]
		d := &difference{tool: tl, input: m.Input(), schema: resolve(t, tl.Definition.GetInputSchema())}
		if m.Input() == m.Output() && !m.IsStreamingServer() {
			d.output = resolve(t, tl.Definition.GetOutputSchema())
		}
		if d.validator, err = protovalidate.New(protovalidate.WithMessageDescriptors(d.input)); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func resolve(t testing.TB, raw []byte) *jsonschema.Resolved {
	t.Helper()
	schema := &jsonschema.Schema{}
	if err := json.Unmarshal(raw, schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// certain are arguments that are too rare to be left to chance.
var certain = map[string][]string{
	"cook_dish": {`{"name":"soup","guests":11,"spicy":true,"must":{}}`},
	"musts": {
		`{"text":"a","number":1,"yes":true,"maybe":0,"colour":"COLOUR_RED","real":1,"message":{}}`,
		`{"text":"a","number":1,"yes":true,"maybe":0,"colour":"COLOUR_RED","real":-0.0,"message":{},"a":""}`,
		`{"text":"a","number":1,"yes":true,"maybe":0,"colour":"COLOUR_RED","real":1,"message":{},"d":null}`,
		`{"text":"a","number":1,"yes":true,"maybe":0,"colour":"COLOUR_RED","real":1,"message":{},"d":null,"a":"x"}`,
	},
	"lists":  {`{"must":[true],"unique_bytes":["AQ","AQ=="]}`},
	"floats": {`{"gte":-1.0000000150474662e+30}`, `{"gte":-1e30}`, `{"const":0.5,"lt":0.25}`},
}

func (d *difference) run(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(seed, uint64(len(d.tool.Name())))), 60}
	for _, arguments := range certain[d.tool.Name()] {
		d.judge(t, []byte(arguments))
	}
	accepted, told := 0, 0
	for n := 0; n < rounds || accepted < 3 && n < 20*rounds; n++ { // of some few are good
		ok, wrong := d.judge(t, []byte(g.message(d.input, 0)))
		if ok {
			accepted++
		}
		if wrong {
			told++
		}
		if told > 8 {
			t.Fatal("and so on")
		}
	}
	if accepted < 3 || accepted > rounds*99/100 {
		t.Errorf("%d accepted do not show much", accepted)
	}
}

// judge reports whether the executor takes the arguments, and whether somebody
// differs for no reason.
func (d *difference) judge(t *testing.T, arguments []byte) (ok, bad bool) {
	t.Helper()
	got, wrong, err := d.tool.Decode(arguments)
	if err != nil {
		t.Fatalf("Decode(%s): %v", arguments, err)
	}
	ok = len(wrong) == 0
	want := dynamicpb.NewMessage(d.input)
	byProtobuf := protojson.Unmarshal(arguments, want)
	if byProtobuf == nil {
		byProtobuf = d.validator.Validate(want)
	}
	bySchema := d.bySchema(arguments)
	complain := func(format string, args ...any) {
		bad = true
		t.Errorf(format, args...)
	}
	switch {
	case ok && byProtobuf != nil:
		complain("Decode takes %s, protobuf says %v", arguments, byProtobuf)
	case ok && !proto.Equal(got, want):
		complain("Decode makes of %s\n%v, protobuf\n%v", arguments, got, want)
	case !ok && byProtobuf == nil && !d.excused(stricter, wrong...):
		complain("protobuf takes %s, Decode tells %v", arguments, wrong)
	}
	switch {
	case ok && bySchema != nil && !d.excused(rounded, &executorv1.Violation{Message: bySchema.Error()}):
		complain("Decode takes %s, the schema says %v", arguments, bySchema)
	case ok && d.output != nil:
		if err := d.returns(t, got); err != nil {
			complain("the result of %s: %v", arguments, err)
		}
	case !ok && bySchema == nil && !d.excused(wider, wrong...):
		complain("the schema takes %s, Decode tells %v", arguments, wrong)
	}
	return ok, bad
}

// returns lets the tool answer what it was asked. The result satisfies the output
// schema, and what a model reads in a result it can send back as arguments.
func (d *difference) returns(t *testing.T, request proto.Message) error {
	answer, err := d.tool.Invoke(t.Context(), parrot{}, request, &tool.Call{Limit: 1 << 20})
	if err != nil {
		return err
	}
	var v any
	if err := json.Unmarshal(answer.JSON, &v); err != nil {
		return err
	}
	if err := d.output.Validate(v); err != nil && !d.excused(rounded, &executorv1.Violation{Message: err.Error()}) {
		return fmt.Errorf("%s: %w", answer.JSON, err)
	}
	if again, wrong, err := d.tool.Decode(answer.JSON); err != nil || len(wrong) > 0 || !proto.Equal(request, again) {
		return fmt.Errorf("%s as arguments: %v, %v", answer.JSON, wrong, err)
	}
	return nil
}

func (d *difference) bySchema(arguments []byte) error {
	var v any
	if err := json.Unmarshal(arguments, &v); err != nil {
		return err // for example a number that no float holds
	}
	return d.schema.Validate(v)
}

// excused reports whether all that is wrong is on the list. From a name
// that is wrong, the rest follows.
func (d *difference) excused(list []exception, wrong ...*executorv1.Violation) bool {
	all := true
	for _, w := range wrong {
		i := slices.IndexFunc(list, func(e exception) bool { return strings.Contains(w.GetMessage(), e.text) })
		if i < 0 {
			all = false
			continue
		}
		d.used <- list[i].text
		if list[i].text == twice || list[i].text == alias {
			return true
		}
	}
	return all
}
