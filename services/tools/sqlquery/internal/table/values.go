package table

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
)

// exact is the largest integer up to which JSON numbers, read as float64, are
// exact.
const exact = 1 << 53

// Args returns parameters as string, int64, float64, bool or nil.
func Args(parameters []*structpb.Value) ([]any, error) {
	out := make([]any, len(parameters))
	for i, p := range parameters {
		switch k := p.GetKind().(type) {
		case *structpb.Value_NullValue:
		case *structpb.Value_BoolValue:
			out[i] = k.BoolValue
		case *structpb.Value_StringValue:
			out[i] = k.StringValue
		case *structpb.Value_NumberValue:
			n := k.NumberValue
			// An integral number is bound as an integer: engines compare, divide
			// and format the two differently.
			if n == math.Trunc(n) && math.Abs(n) <= exact {
				out[i] = int64(n)
			} else {
				out[i] = n
			}
		default:
			return nil, fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_PARAMETERS,
				"parameter %d is a list or an object: only strings, numbers, booleans and null can be bound", i+1)
		}
	}
	return out, nil
}

// Text returns bytes as text if that is what they are, else as "base64:…".
func Text(b []byte) *structpb.Value {
	if utf8.Valid(b) {
		return structpb.NewStringValue(string(b))
	}
	return structpb.NewStringValue("base64:" + base64.StdEncoding.EncodeToString(b))
}

// Int returns an integer as a number, or as text where a number would not be
// exact.
func Int(n int64) *structpb.Value {
	if n > exact || n < -exact {
		return structpb.NewStringValue(strconv.FormatInt(n, 10))
	}
	return structpb.NewNumberValue(float64(n))
}

// Float returns a number, or as text what JSON has no number for.
func Float(f float64) *structpb.Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return structpb.NewStringValue(strconv.FormatFloat(f, 'g', -1, 64))
	}
	return structpb.NewNumberValue(f)
}

// Time returns a time in RFC 3339.
func Time(t time.Time) *structpb.Value {
	return structpb.NewStringValue(t.Format(time.RFC3339Nano))
}
