package repotest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/customers/v1"
	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
)

// Every text, list and map in a contract has an upper bound: that is a security
// rule.
func TestEveryFieldIsBounded(t *testing.T) {
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(f.Package()), "sallyport.") {
			bounded(t, f.Messages())
		}
		return true
	})
}

func bounded(t *testing.T, ms protoreflect.MessageDescriptors) {
	t.Helper()
	for i := range ms.Len() {
		m := ms.Get(i)
		if m.IsMapEntry() {
			continue
		}
		bounded(t, m.Messages())
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			rules, err := protovalidate.ResolveFieldRules(f)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case f.IsMap():
				limit(t, f, rules.GetMap().HasMaxPairs(), "map.max_pairs")
				scalarBound(t, f, f.MapKey().Kind(), rules.GetMap().GetKeys())
				scalarBound(t, f, f.MapValue().Kind(), rules.GetMap().GetValues())
			case f.IsList():
				limit(t, f, rules.GetRepeated().HasMaxItems(), "repeated.max_items")
				scalarBound(t, f, f.Kind(), rules.GetRepeated().GetItems())
			default:
				scalarBound(t, f, f.Kind(), rules)
			}
		}
	}
}

func scalarBound(t *testing.T, f protoreflect.FieldDescriptor, k protoreflect.Kind, rules *validate.FieldRules) {
	t.Helper()
	switch k {
	case protoreflect.StringKind:
		s := rules.GetString()
		limit(t, f, s.HasMaxLen() || s.HasMaxBytes() || s.HasLen() || s.HasPattern() || len(s.GetIn()) > 0, "string.max_len")
	case protoreflect.BytesKind:
		limit(t, f, rules.GetBytes().HasMaxLen() || rules.GetBytes().HasLen(), "bytes.max_len")
	}
}

func limit(t *testing.T, f protoreflect.FieldDescriptor, ok bool, rule string) {
	t.Helper()
	if !ok {
		t.Errorf("%s has no upper bound (%s)", f.FullName(), rule)
	}
}

// Every tool says what it does, what it can do to the world, and has comments
// for the model, also on each field.
func TestEveryToolIsDocumented(t *testing.T) {
	images, err := filepath.Glob(filepath.Join(root, "services/tools/*/descriptor.binpb"))
	if err != nil || len(images) == 0 {
		t.Fatalf("no descriptor images (%v); run `make gen`", err)
	}
	for _, image := range images {
		b, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		set := new(descriptorpb.FileDescriptorSet)
		if err := proto.Unmarshal(b, set); err != nil {
			t.Fatal(err)
		}
		for _, f := range set.GetFile() {
			comments := make(map[string]string)
			for _, l := range f.GetSourceCodeInfo().GetLocation() {
				comments[pathKey(l.GetPath())] = l.GetLeadingComments()
			}
			for i, s := range f.GetService() {
				for j, m := range s.GetMethod() {
					tool, _ := proto.GetExtension(m.GetOptions(), toolv1.E_Tool).(*toolv1.Tool)
					if tool == nil {
						t.Errorf("%s: %s is no tool", image, m.GetName())
						continue
					}
					if tool.GetRisk() == toolv1.Risk_RISK_UNSPECIFIED || tool.GetName() == "" || tool.GetTimeout() == nil {
						t.Errorf("%s: %s lacks a name, a risk or a timeout", image, m.GetName())
					}
					if comments[pathKey([]int32{6, int32(i), 2, int32(j)})] == "" {
						t.Errorf("%s: %s has no comment", image, m.GetName())
					}
				}
			}
			for i, m := range f.GetMessageType() {
				for j, field := range m.GetField() {
					if strings.HasSuffix(m.GetName(), "Request") && comments[pathKey([]int32{4, int32(i), 2, int32(j)})] == "" {
						t.Errorf("%s: %s.%s has no comment", image, m.GetName(), field.GetName())
					}
				}
			}
		}
	}
}

func pathKey(p []int32) string {
	var b strings.Builder
	for _, n := range p {
		b.WriteRune(rune(n) + '0')
		b.WriteByte('.')
	}
	return b.String()
}
