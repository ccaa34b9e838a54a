package approval

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
)

// maxEntry bounds an entry of the bucket: the smallest message size that NATS
// servers are commonly set to.
const maxEntry = 1 << 20

// codec writes and reads entries of the bucket.
type codec struct{ check *rules.Checker }

func newCodec() (codec, error) {
	check, err := rules.NewChecker((&executorv1.Approval{}).ProtoReflect().Descriptor())
	if err != nil {
		return codec{}, err
	}
	return codec{check}, nil
}

// encode writes an approval, if decode will be able to read it.
func (c codec) encode(a *executorv1.Approval) ([]byte, error) {
	if err := c.valid(a); err != nil {
		return nil, err
	}
	value, err := proto.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("write approval: %w", err)
	}
	if len(value) > maxEntry {
		return nil, fmt.Errorf("approval of %d bytes: must be at most %d", len(value), maxEntry)
	}
	return value, nil
}

// decode reads the entry with a key, which may hold anything.
func (c codec) decode(key string, value []byte) (*executorv1.Approval, error) {
	if len(value) > maxEntry {
		return nil, fmt.Errorf("approval of %d bytes: must be at most %d", len(value), maxEntry)
	}
	a := &executorv1.Approval{}
	if err := proto.Unmarshal(value, a); err != nil {
		return nil, fmt.Errorf("read approval: %w", err)
	}
	if err := c.valid(a); err != nil {
		return nil, err
	}
	// Else what was approved for one tool could be put in the place of another.
	service, _, _ := strings.Cut(key, ".")
	was := a.GetReplaced().GetDefinition()
	if keyOf(service, a.GetDefinition().GetName()) != key || was != nil && keyOf(service, was.GetName()) != key {
		return nil, errors.New("approval of another tool")
	}
	return a, nil
}

func (c codec) valid(a *executorv1.Approval) error {
	broken, err := c.check.Check(a)
	if err != nil {
		return err
	}
	if len(broken) > 0 {
		return fmt.Errorf("approval: %s %s", broken[0].GetPointer(), broken[0].GetMessage())
	}
	return nil
}

// keyOf names a tool in the bucket. A service's name has no dots, a tool's may
// have some; where NATS would not take them as they are they are written
// otherwise, with a sign that no tool's name has.
func keyOf(service, tool string) string {
	if strings.HasPrefix(tool, ".") || strings.HasSuffix(tool, ".") || strings.Contains(tool, "..") {
		tool = strings.ReplaceAll(tool, ".", "=2E")
	}
	return service + "." + tool
}

// entry is what is remembered of an approval. The definition is not: it may be
// large and is only needed when somebody looks.
type entry struct {
	digest     string // "" of one that cannot be read
	options    *toolv1.Tool
	by         string
	time       *timestamppb.Timestamp
	revision   uint64
	generation uint64 // of the watch that told it
}

func (e entry) approves(digest []byte) bool { return e.digest != "" && e.digest == string(digest) }

// covers reports whether an offer is restricted at least as much.
func (e entry) covers(o Offer) bool {
	return e.digest != "" && len(Loosened(e.options, o.Definition.GetOptions())) == 0
}

func remember(a *executorv1.Approval, revision uint64) entry {
	return entry{digest: string(a.GetDigest()), options: a.GetDefinition().GetOptions(), by: a.GetBy(), time: a.GetTime(), revision: revision}
}

// approve makes an approval of what is offered.
func approve(o Offer, by string) *executorv1.Approval {
	return &executorv1.Approval{
		Definition: o.Definition, Digest: o.Digest, By: by,
		Time: timestamppb.New(time.Now().UTC().Truncate(time.Millisecond)),
	}
}
