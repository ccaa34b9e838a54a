package transcode_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/transcode"
)

func plan(t testing.TB, m protoreflect.MessageDescriptor) *transcode.Plan {
	t.Helper()
	p, err := transcode.NewPlan(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func order(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	set, err := protoset.Build(tooltest.Image(t, "kitchen"))
	if err != nil {
		t.Fatal(err)
	}
	return set.Services()[0].Methods().ByName("CookDish").Input()
}

// The JSON is protojson's with the names of the proto and all defaults, less
// its random spaces.
func TestEncodeIsProtojson(t *testing.T) {
	t.Parallel()
	messages := map[string]proto.Message{
		"an empty message": &logsv1.SummarizeLogsResponse{},
		"a large one": &logsv1.SummarizeLogsResponse{
			Summary: "a \"b\"\n\u2028<é>", Sources: []*logsv1.LogSource{{Name: "x", Lines: 3}}, Levels: map[string]int32{"b": 1, "a": -2, "": 0},
			Spikes: []*logsv1.ErrorSpike{{Expected: 1.5}, {Expected: 1e21}, {Expected: 1e-7}, {Expected: 0.1}, {Expected: math.Copysign(0, -1)}}, Truncated: true,
		},
		"a table": &sqlqueryv1.RunSqlQueryResponse{
			Columns: []string{"a"}, RowCount: 2,
			Rows: []*structpb.ListValue{{Values: []*structpb.Value{
				structpb.NewNullValue(), structpb.NewBoolValue(true), structpb.NewNumberValue(12), structpb.NewStringValue("x"),
				structpb.NewListValue(&structpb.ListValue{}), structpb.NewStructValue(&structpb.Struct{}),
			}}, {}},
		},
	}
	full := dynamicpb.NewMessage(order(t))
	if err := protojson.Unmarshal([]byte(`{"name":"soup","serial":"-5","total":"18446744073709551615","weight":1.25,"heat":0.1,
		"spicy":true,"photo":"/+8=","course":"COURSE_MAIN","sides":["a","b"],"prices":{"b":1,"a":2},"seats":{"-1":"x","7":"y"},
		"cash":false,"recipe":{"text":"a","then":[{"text":"b"}]},"at":"2026-01-02T03:04:05.006Z","rest":"-1.5s",
		"extra":{"k":[1,{"z":null}]},"anything":"x","list":[true],"note":"","mask":"aB,c","tip":0,"must":{}}`), full); err != nil {
		t.Fatal(err)
	}
	messages["one of everything"] = full
	for name, m := range messages {
		t.Run(name, func(t *testing.T) {
			got, err := plan(t, m.ProtoReflect().Descriptor()).Encode(m.ProtoReflect(), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			var w, g any
			if err := json.Unmarshal(raw, &w); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(got, &g); err != nil {
				t.Fatalf("Encode writes %s: %v", got, err)
			}
			if diff := cmp.Diff(w, g); diff != "" {
				t.Errorf("Encode (-protojson +got):\n%s", diff)
			}
			if strings.Contains(string(got), ": ") || strings.Contains(string(got), ", \"") {
				t.Errorf("Encode writes spaces: %s", got)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	set := func(field protoreflect.Name, v protoreflect.Value) protoreflect.Message {
		m := dynamicpb.NewMessage(order(t))
		m.Set(m.Descriptor().Fields().ByName(field), v)
		return m
	}
	tests := []struct {
		name    string
		message protoreflect.Message
		limit   int
		want    error
	}{
		{"not a number", set("weight", protoreflect.ValueOfFloat64(math.NaN())), 1 << 20, nil},
		{"infinity", set("heat", protoreflect.ValueOfFloat32(float32(math.Inf(1)))), 1 << 20, nil},
		{"a value of an enum without a name", set("course", protoreflect.ValueOfEnum(99)), 1 << 20, nil},
		{"a value that holds nothing", (&sqlqueryv1.RunSqlQueryRequest{Parameters: []*structpb.Value{{}}}).ProtoReflect(), 1 << 20, nil},
		{"bad UTF-8", set("name", protoreflect.ValueOfString("\xff")), 1 << 20, nil},
		{"more than the limit", set("name", protoreflect.ValueOfString(strings.Repeat("x", 2000))), 2000, transcode.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := plan(t, tt.message.Descriptor()).Encode(tt.message, tt.limit)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Encode = %s, %v", out, err)
			}
		})
	}
}

func TestNewPlanRefuses(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]proto.Message{
		"any": &anypb.Any{}, "a value": &structpb.Value{}, "a list": &structpb.ListValue{},
	} {
		if _, err := transcode.NewPlan(m.ProtoReflect().Descriptor(), nil); err == nil {
			t.Errorf("NewPlan accepts %s as arguments", name)
		}
	}
}

// Whatever is decoded is encoded to what decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"soup","guests":2,"must":{}}`, `{"serial":"1","total":2,"weight":1e-9,"heat":3.5}`,
		`{"recipe":{"text":"a","then":[{}]},"anything":{"a":[null,1,"x",{}]},"bag":{"x":null}}`,
		`{"at":"2026-01-02T03:04:05Z","rest":"1s","note":null,"mask":"a"}`, `{"photo":"AQ==","courses":["COURSE_MAIN"]}`,
		`{"seats":{"1":"x"},"prices":{"a":1}}`, `[`, `{"name":"\ud800"}`, `{"name":1,"name":2}`, "{\"\xff\":1}", `{"guests":1e309}`,
	} {
		f.Add([]byte(seed))
	}
	p := plan(f, order(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, wrong := p.Decode(data)
		if (m == nil) == (len(wrong) == 0) || len(wrong) > 32 {
			t.Fatalf("Decode = %v, %v", m, wrong)
		}
		for _, v := range wrong {
			if len([]rune(v.GetPointer())) > 512 || len([]rune(v.GetMessage())) > 512 {
				t.Errorf("a violation is too long: %v", v)
			}
		}
		if m == nil {
			return
		}
		if !json.Valid(data) {
			t.Errorf("Decode accepts %q", data)
		}
		out, err := p.Encode(m, 1<<22)
		if err != nil {
			t.Fatalf("Encode: %v", err)
		}
		again, wrong := p.Decode(out)
		if len(wrong) > 0 || !proto.Equal(m, again) {
			t.Errorf("%s became %s, which is %v %v", data, out, again, wrong)
		}
	})
}
