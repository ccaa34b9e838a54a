package approval

import (
	"bytes"

	"google.golang.org/protobuf/proto"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// maxReplaced bounds the definition that is kept beside the one that has come in its
// place, in bytes.
const maxReplaced = 256 << 10

// replaced is what an approval takes the place of, nil if of nothing: the one before
// it, or what that had replaced if it says the same.
func replaced(before, after *executorv1.Approval) *executorv1.Replaced {
	if before == nil || bytes.Equal(before.GetDigest(), after.GetDigest()) {
		return before.GetReplaced()
	}
	r := &executorv1.Replaced{Digest: before.GetDigest(), By: before.GetBy(), Time: before.GetTime()}
	if d := before.GetDefinition(); proto.Size(d) <= maxReplaced && !proto.Equal(d, shortened(d)) {
		r.Definition = d
	}
	return r
}

// shortened is what is kept of a definition that is too large: what is compared.
func shortened(d *providerv1.ToolDefinition) *providerv1.ToolDefinition {
	return &providerv1.ToolDefinition{Name: d.GetName(), InputSchema: []byte(`{}`), Options: d.GetOptions()}
}

// encodeShort is encode; of an approval that does not fit, it leaves out the
// definition that was replaced. That one is only looked at by people.
func (c codec) encodeShort(a *executorv1.Approval) ([]byte, error) {
	value, err := c.encode(a)
	if err == nil || a.GetReplaced().GetDefinition() == nil {
		return value, err
	}
	a.Replaced.Definition = nil
	return c.encode(a)
}
