package edge

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// catalogue is the edge's copy of all tools, as they are shown. The zero value is
// empty.
type catalogue struct {
	mu      sync.Mutex
	current *tools
	asked   time.Time // when the executor last answered
	// announced is the version that the executor has said there is.
	announced string
}

// tools is one version of the catalogue; it is never written to.
type tools struct {
	version string
	names   []string
	hash    [sha256.Size]byte // of the names, as auth's contract has it
	shown   [][]byte          // the JSON of each, in the same order
	legacy  [][]byte          // the same for clients of the legacy era
	params  map[string][]headerParam
	reads   map[string]bool // the tools that only read
}

// headerMaxAge is how old the catalogue may be that says which arguments have to
// be repeated in headers. A tool that has just got such an argument is called
// without that check for as long; the body counts in any case.
const headerMaxAge = 5 * time.Second

// Fresh returns the catalogue if it is younger than headerMaxAge, else nil.
func (c *catalogue) Fresh(now time.Time) *tools {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.asked) >= headerMaxAge {
		return nil
	}
	return c.current
}

// Announce says which version there is now, and returns whether that is news.
func (c *catalogue) Announce(version string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := c.announced != version
	c.announced = version
	return fresh
}

// Announced returns the version that was announced: from memory, or else from the
// executor, which may have a newer one by then.
func (c *catalogue) Announced(ctx context.Context, executor executorv1.ExecutorServiceClient) (*tools, error) {
	c.mu.Lock()
	current, announced := c.current, c.announced
	c.mu.Unlock()
	if current != nil && current.version == announced {
		return current, nil
	}
	fresh, err := c.Get(ctx, executor)
	if err != nil {
		return nil, err
	}
	return fresh, nil
}

// Get asks the executor for the catalogue. If that fails it returns what it has,
// or nil, besides the error.
func (c *catalogue) Get(ctx context.Context, executor executorv1.ExecutorServiceClient) (*tools, error) {
	c.mu.Lock()
	known := c.current
	c.mu.Unlock()
	version := ""
	if known != nil {
		version = known.version
	}
	now := time.Now()
	resp, err := executor.ListTools(ctx, &executorv1.ListToolsRequest{KnownVersion: version})
	if err != nil {
		return known, err
	}
	fresh := known
	if known == nil || resp.GetVersion() != known.version {
		fresh = newTools(resp)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !now.Before(c.asked) {
		c.current, c.asked = fresh, now
	}
	return fresh, nil
}

func newTools(resp *executorv1.ListToolsResponse) *tools {
	sorted := slices.Clone(resp.GetTools())
	slices.SortFunc(sorted, func(a, b *executorv1.Tool) int {
		return strings.Compare(a.GetDefinition().GetName(), b.GetDefinition().GetName())
	})
	t := &tools{version: resp.GetVersion(), params: make(map[string][]headerParam), reads: make(map[string]bool)}
	for _, tool := range sorted {
		def := tool.GetDefinition()
		if !toolName(def.GetName()) || !isObject(def.GetInputSchema()) {
			continue // clients would choke on the whole list
		}
		t.names = append(t.names, def.GetName())
		output := isObject(def.GetOutputSchema())
		shown := appendTool(nil, def, output)
		t.shown, t.legacy = append(t.shown, shown), append(t.legacy, shown)
		if output && !typeObject(def.GetOutputSchema()) {
			t.legacy[len(t.legacy)-1] = appendTool(nil, def, false)
		}
		t.reads[def.GetName()] = def.GetOptions().GetRisk() == toolv1.Risk_RISK_READ
		if params := headerParams(def.GetInputSchema()); len(params) > 0 {
			t.params[def.GetName()] = params
		}
	}
	t.hash = hashNames(t.names)
	return t
}

// hashNames is the hash by which auth knows a list of names.
func hashNames(names []string) [sha256.Size]byte {
	var b []byte
	for _, name := range names {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(name))), name...)
	}
	return sha256.Sum256(b)
}

// typeObject reports whether the root of a schema is of the type object. Before
// 2026-07-28 an output schema had to be, and clients refuse a whole list over
// one that is not.
func typeObject(schema []byte) bool {
	is := false
	eachMember(schema, func(name string, value jsontext.Value) {
		is = is || name == "type" && string(value) == `"object"`
	})
	return is
}

// appendTool writes a tool as tools/list shows it, with or without its output
// schema; else the same in all revisions.
func appendTool(b []byte, def *providerv1.ToolDefinition, output bool) []byte {
	b = appendText(append(b, `{"name":`...), def.GetName())
	title := def.GetTitle()
	if title != "" {
		b = appendText(append(b, `,"title":`...), title)
	}
	b = appendText(append(b, `,"description":`...), def.GetDescription())
	b = append(append(b, `,"inputSchema":`...), def.GetInputSchema()...)
	if output {
		b = append(append(b, `,"outputSchema":`...), def.GetOutputSchema()...)
	}
	b = append(b, `,"annotations":{`...)
	if title != "" {
		b = append(appendText(append(b, `"title":`...), title), ',')
	}
	opts := def.GetOptions()
	read := opts.GetRisk() == toolv1.Risk_RISK_READ
	// What is not known to be harmless counts as destructive.
	destructive := !read && opts.GetRisk() != toolv1.Risk_RISK_WRITE
	b = strconv.AppendBool(append(b, `"readOnlyHint":`...), read)
	b = strconv.AppendBool(append(b, `,"destructiveHint":`...), destructive)
	b = strconv.AppendBool(append(b, `,"idempotentHint":`...), opts.GetIdempotent() || read)
	b = strconv.AppendBool(append(b, `,"openWorldHint":`...), opts.GetOutbound())
	b = append(b, '}')
	b = appendIcons(b, def.GetIcons())
	if isObject(def.GetMeta()) {
		b = append(append(b, `,"_meta":`...), def.GetMeta()...)
	}
	return append(b, '}')
}

func appendIcons(b []byte, icons []*providerv1.Icon) []byte {
	for i, icon := range icons {
		if i == 0 {
			b = append(b, `,"icons":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendText(append(b, `{"src":`...), icon.GetSrc())
		if icon.GetMimeType() != "" {
			b = appendText(append(b, `,"mimeType":`...), icon.GetMimeType())
		}
		for j, size := range icon.GetSizes() {
			if j == 0 {
				b = append(b, `,"sizes":[`...)
			} else {
				b = append(b, ',')
			}
			if b = appendText(b, size); j == len(icon.GetSizes())-1 {
				b = append(b, ']')
			}
		}
		if icon.GetTheme() != "" {
			b = appendText(append(b, `,"theme":`...), icon.GetTheme())
		}
		if b = append(b, '}'); i == len(icons)-1 {
			b = append(b, ']')
		}
	}
	return b
}

// isObject reports whether bytes that go into an answer as they are are one JSON
// object. A tool's bytes must not be able to end the answer early.
func isObject(b []byte) bool {
	v := jsontext.Value(b)
	return v.Kind() == jsontext.KindBeginObject && v.IsValid()
}
