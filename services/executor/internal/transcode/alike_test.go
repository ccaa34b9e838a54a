package transcode_test

import (
	"slices"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson/strictjsontest"
)

// FuzzArgumentsAreReadAlike holds what a tool gets in its message to what the arguments
// mean to any other reader. It reads into a field that takes any JSON.
func FuzzArgumentsAreReadAlike(f *testing.F) {
	strictjsontest.Seed(f)
	p := plan(f, (&sqlqueryv1.RunSqlQueryRequest{}).ProtoReflect().Descriptor())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 4096 {
			return
		}
		whole := []byte(`{"parameters":[` + string(raw) + `]}`)
		want, good := strictjsontest.Read(whole)
		good = good && strictjson.Check(whole, strictjson.DefaultLimits()) == nil
		m, wrong := p.Decode(whole)
		if m == nil {
			if good && len(want.Names) == 1 {
				t.Fatalf("%q is refused: %v", whole, wrong)
			}
			return
		}
		if !good {
			t.Fatalf("%q is taken, and is no strict JSON", whole)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := &sqlqueryv1.RunSqlQueryRequest{}
		if err := proto.Unmarshal(b, got); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got.GetParameters(), want.Member("parameters").Values, gets) {
			t.Errorf("the tool gets %v of %s", got, want)
		}
	})
}

// gets reports whether a message's value is a JSON value; numbers as a float64 has them.
func gets(got *structpb.Value, want *strictjsontest.Value) bool {
	switch v := got.GetKind().(type) {
	case *structpb.Value_NullValue:
		return want.Kind == 'n'
	case *structpb.Value_BoolValue:
		return want.Kind == 't' && v.BoolValue || want.Kind == 'f' && !v.BoolValue
	case *structpb.Value_StringValue:
		return want.Kind == '"' && v.StringValue == want.Text
	case *structpb.Value_NumberValue:
		n, err := strconv.ParseFloat(want.Text, 64)
		return want.Kind == '0' && err == nil && n == v.NumberValue
	case *structpb.Value_ListValue:
		return want.Kind == '[' && slices.EqualFunc(v.ListValue.GetValues(), want.Values, gets)
	case *structpb.Value_StructValue:
		for i, name := range want.Names {
			if inner := v.StructValue.GetFields()[name]; inner == nil || !gets(inner, want.Values[i]) {
				return false
			}
		}
		return want.Kind == '{' && len(v.StructValue.GetFields()) == len(want.Names)
	}
	return false
}
