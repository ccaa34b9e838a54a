package approval

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Whatever is in the bucket, what is read keeps the rules, is of the tool that
// the key names, and is written again as it was.
func FuzzDecode(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	for key, a := range map[string]*executorv1.Approval{
		"github.search": {Definition: &providerv1.ToolDefinition{Name: "search"}, Digest: make([]byte, 32), By: FirstUse, Time: &timestamppb.Timestamp{}},
		"github.other":  {Definition: &providerv1.ToolDefinition{Name: "search"}, Digest: make([]byte, 32), Time: &timestamppb.Timestamp{}},
		"github.=2E":    {Definition: &providerv1.ToolDefinition{Name: "."}, Digest: make([]byte, 32), Time: &timestamppb.Timestamp{}},
		"a.d": {
			Definition: &providerv1.ToolDefinition{Name: "d"}, Digest: make([]byte, 32), Time: &timestamppb.Timestamp{},
			Replaced: &executorv1.Replaced{Definition: &providerv1.ToolDefinition{Name: "e"}, Digest: make([]byte, 32), Time: &timestamppb.Timestamp{}},
		},
		"a.b.c": {Definition: &providerv1.ToolDefinition{Name: "b.c"}, Digest: make([]byte, 31), Time: &timestamppb.Timestamp{}},
	} {
		value, err := proto.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key, value)
	}
	f.Add("", []byte(nil))
	f.Add("x", []byte("\xff"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		a, err := c.decode(key, value)
		if err != nil {
			return
		}
		if len(a.GetDigest()) != 32 || keyOf(serviceOf(key), a.GetDefinition().GetName()) != key {
			t.Fatalf("took %v under %q", a, key)
		}
		if d := a.GetReplaced().GetDefinition(); d != nil && keyOf(serviceOf(key), d.GetName()) != key {
			t.Fatalf("took %v under %q", a, key)
		}
		again, err := c.encode(a)
		if err != nil {
			t.Fatalf("cannot be written again: %v", err)
		}
		b, err := c.decode(key, again)
		if err != nil {
			t.Fatalf("cannot be read again: %v", err)
		}
		if diff := cmp.Diff(a, b, protocmp.Transform()); diff != "" {
			t.Errorf("read again (-first +second):\n%s", diff)
		}
	})
}
