package catalogue

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// TestNamesOfArgumentsTakeTheRoomThatIsLeft checks that they keep no tool from being
// published.
func TestNamesOfArgumentsTakeTheRoomThatIsLeft(t *testing.T) {
	t.Parallel()
	var all []*Entry
	bare := new(executorv1.Catalogue)
	for i := range 20 {
		d := &providerv1.ToolDefinition{
			Name:        fmt.Sprintf("tool_%02d", i),
			InputSchema: fmt.Appendf(nil, `{"type":"object","properties":{"%0*d":{},"b":{}}}`, 1+i*3, 0),
		}
		if i == 5 {
			d.InputSchema = []byte(`{"additionalProperties":true}`)
		}
		f, err := tool.NewFace("s", d)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &Entry{Face: f})
		bare.Entries = append(bare.Entries, published(&f))
	}
	size := proto.Size(bare)
	known := 0
	for most := size; known < len(all)-1; most++ {
		msg := proto.Clone(bare).(*executorv1.Catalogue)
		nameArguments(msg, all, most)
		if got := proto.Size(msg); got > most {
			t.Fatalf("got %d bytes, want at most %d", got, most)
		}
		known = 0
		for i, e := range msg.GetEntries() {
			if e.GetArgumentsKnown() {
				known++
			}
			if e.GetArgumentsKnown() != (len(e.GetArguments()) > 0) || i == 5 && e.GetArgumentsKnown() {
				t.Errorf("got %v", e)
			}
		}
		if most == size && known > 0 {
			t.Errorf("without room: got the arguments of %d tools", known)
		}
		if most > 2*size+4096 {
			t.Fatalf("got the arguments of %d tools, want all that are known", known)
		}
	}
}
