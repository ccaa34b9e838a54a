package tool

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
)

// Face is what models and policies see of a tool, wherever it is. Nothing in it
// changes.
type Face struct {
	Definition *providerv1.ToolDefinition
	Service    string // that offers it, as announced: "customers"
	Digest     []byte // over all that a model or a policy can see

	// Arguments are the names of all arguments that the schema speaks of, sorted, if
	// ArgumentsKnown; otherwise there can be others.
	Arguments      []string
	ArgumentsKnown bool

	output func() (*jsonschema.Schema, error) // compiled when first needed
}

// NewFace returns the face of a tool of a service. The definition must not be
// changed any more.
func NewFace(service string, d *providerv1.ToolDefinition) (Face, error) {
	sum, err := digest(service, d)
	f := Face{Definition: d, Service: service, Digest: sum}
	f.Arguments, f.ArgumentsKnown = argumentNames(d.GetInputSchema())
	f.output = sync.OnceValues(func() (*jsonschema.Schema, error) { return jsonschema.Compile(d.GetOutputSchema()) })
	return f, err
}

// CheckOutput returns what is wrong with the data of a result by the tool's output
// schema, as clients check it; nothing if the tool has none. It is an error if that
// cannot be decided.
func (f *Face) CheckOutput(raw []byte) ([]*executorv1.Violation, error) {
	if len(f.Definition.GetOutputSchema()) == 0 {
		return nil, nil
	}
	s, err := f.output()
	if err != nil {
		return nil, fmt.Errorf("output schema: %w", err)
	}
	return s.Check(raw)
}

// Name returns the name that models call.
func (f *Face) Name() string { return f.Definition.GetName() }

// Destructive reports whether the tool must be taken to do what cannot be
// undone. One that says nothing of its risk is.
func (f *Face) Destructive() bool {
	switch f.Definition.GetOptions().GetRisk() {
	case toolv1.Risk_RISK_READ, toolv1.Risk_RISK_WRITE:
		return false
	}
	return true
}

// Idempotent reports whether a call may be made twice.
func (f *Face) Idempotent() bool { return f.Definition.GetOptions().GetIdempotent() }

// ReadOnly reports whether the tool changes nothing.
func (f *Face) ReadOnly() bool {
	return f.Definition.GetOptions().GetRisk() == toolv1.Risk_RISK_READ
}

// Timeout returns the tool's own limit, or 0.
func (f *Face) Timeout() time.Duration { return f.Definition.GetOptions().GetTimeout().AsDuration() }

// Uses are the units that a call is expected to use; none for most tools.
func (f *Face) Uses() []*toolv1.Use { return f.Definition.GetOptions().GetUses() }

// HasTag reports whether the tool bears a tag.
func (f *Face) HasTag(tag string) bool {
	return slices.Contains(f.Definition.GetOptions().GetTags(), tag)
}

// digest hashes what a model or a policy can see of a tool.
func digest(service string, d *providerv1.ToolDefinition) ([]byte, error) {
	deterministic := proto.MarshalOptions{Deterministic: true}
	options, err := deterministic.Marshal(d.GetOptions())
	if err != nil {
		return nil, fmt.Errorf("digest: %w", err)
	}
	h := sha256.New()
	for _, part := range [][]byte{
		[]byte(service), []byte(d.GetName()), []byte(d.GetTitle()), []byte(d.GetDescription()),
		d.GetInputSchema(), d.GetOutputSchema(), options, d.GetMeta(),
	} {
		write(h, part)
	}
	for _, icon := range d.GetIcons() {
		raw, err := deterministic.Marshal(icon)
		if err != nil {
			return nil, fmt.Errorf("digest: %w", err)
		}
		write(h, raw)
	}
	return h.Sum(nil), nil
}

// write adds a part with its length, so that parts cannot run into each other.
func write(h hash.Hash, part []byte) {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(part)))
	h.Write(size[:])
	h.Write(part)
}
