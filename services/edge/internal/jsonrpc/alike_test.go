package jsonrpc_test

import (
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson/strictjsontest"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// FuzzArgumentsAreReadAlike holds the bytes that the edge takes for a call's arguments,
// hashes and sends on, to what the message means to any other reader: they are one
// strict JSON object, that of the message, and one that auth and executor take.
func FuzzArgumentsAreReadAlike(f *testing.F) {
	strictjsontest.Seed(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":` + string(raw) + `}}`
		m, err := scan(body)
		if err != nil || m.Arguments.Kind != jsonrpc.Object {
			return
		}
		got := m.Raw(m.Arguments)
		arguments, ok := strictjsontest.Read(got)
		if !ok || arguments.Kind != '{' {
			t.Fatalf("%q is no object, and is taken for arguments", got)
		}
		if err := strictjson.Check(got, strictjson.DefaultLimits()); err != nil {
			t.Errorf("%q: auth and executor say %v", got, err)
		}
		whole, ok := strictjsontest.Read([]byte(body))
		if !ok {
			t.Fatalf("%q is no strict JSON, and is taken", body)
		}
		if want := whole.Member("params").Member("arguments"); want.String() != arguments.String() {
			t.Errorf("got the arguments %s, the message has %s", arguments, want)
		}
	})
}
