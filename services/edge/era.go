package edge

import (
	"errors"

	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// The revisions that are served.
const (
	version2026 = "2026-07-28"
	version2511 = "2025-11-25"
	version2506 = "2025-06-18"
)

func legacyVersion(v string) bool { return v == version2511 || v == version2506 }

// maxID is how long a request's id may be. It is sent back as it came.
const maxID = 256

// parse scans the body, finds the era, and checks the envelope and all headers
// that repeat what the body says.
func (x *exchange) parse() *refusal {
	if err := x.scanner.Scan(x.body, &x.msg); err != nil {
		x.msg.Reset()
		kind := kindNotRequest
		if errors.Is(err, jsonrpc.ErrSyntax) {
			kind = kindSyntax
		}
		return refuse(kind, scanMessage(err))
	}
	m := &x.msg
	x.client = clientText(m)
	// The id first, so that whatever is wrong later can be told under it.
	switch m.ID.Kind {
	case jsonrpc.Absent:
	case jsonrpc.String, jsonrpc.Number:
		if raw := m.Raw(m.ID); len(raw) <= maxID && (m.ID.Kind == jsonrpc.String || integer(raw)) {
			x.id = raw
			break
		}
		return refuse(kindNotRequest, "The id has to be an integer or a short string")
	default:
		return refuse(kindNotRequest, "The id has to be an integer or a string, and not null")
	}
	response := m.Result.Present() || m.Error.Present()
	switch {
	case !m.Is(m.Version, "2.0"):
		return refuse(kindNotRequest, `The member jsonrpc has to be "2.0"`)
	case response && m.Method.Present():
		return refuse(kindNotRequest, "A message is either a request or a response")
	case !response && m.Method.Kind != jsonrpc.String:
		return refuse(kindNotRequest, "The member method has to be a string")
	}
	if repeated(x.r.Header) {
		return refuse(kindHeader, "An Mcp header was sent more than once. Send each once")
	}
	if response {
		return x.parseAnswer()
	}
	if x.said = toolsCall; !m.Is(m.Method, toolsCall) { // most are, and need no copy
		x.said = m.Text(m.Method)
	}
	if refused := x.findEra(); refused != nil {
		return refused
	}
	x.ensureSpan()
	if m.Params.Present() && m.Params.Kind != jsonrpc.Object {
		return refuse(kindParams, "The member params has to be an object")
	}
	if x.era == eraModern {
		return x.checkModern()
	}
	return nil
}

// scanMessage adds to what the scanner found what to do about it.
func scanMessage(err error) string {
	switch {
	case errors.Is(err, jsonrpc.ErrSyntax):
		return "The body is not one strict JSON value: no duplicate names, valid UTF-8, nothing after the end"
	case errors.Is(err, jsonrpc.ErrBatch):
		return "Batches are not supported. Send one request at a time"
	case errors.Is(err, jsonrpc.ErrNotObject):
		return "The body has to be a JSON object"
	case errors.Is(err, jsonrpc.ErrDepth):
		return "The body is nested too deeply. Flatten it"
	case errors.Is(err, jsonrpc.ErrNodes):
		return "The body holds too many values. Split the request"
	case errors.Is(err, jsonrpc.ErrKeys):
		return "An object in the body has too many members. Split it"
	case errors.Is(err, jsonrpc.ErrString):
		return "A string in the body is too long. Shorten it"
	case errors.Is(err, jsonrpc.ErrNumber):
		return "A number in the body is too long or too large. Send it as a string"
	default:
		return "A member's name differs from a reserved one only in case. Use the names as the protocol spells them"
	}
}

// integer reports whether a JSON number is written without fraction or exponent.
func integer(raw []byte) bool {
	for i, c := range raw {
		if (c < '0' || c > '9') && (i > 0 || c != '-') {
			return false
		}
	}
	return true
}

// findEra chooses between the eras by header and body together. Nothing else
// tells them apart: some legacy clients send Mcp-Method as well.
func (x *exchange) findEra() *refusal {
	header := headerValue(x.r.Header, "Mcp-Protocol-Version")
	m := &x.msg
	inBody := m.MetaVersion.Present()
	switch {
	case header == "" && inBody:
		x.era = eraModern
		return refuse(kindHeader, "The header MCP-Protocol-Version is missing. It has to repeat the version in _meta")
	case header == "" && m.Is(m.Method, "initialize"):
		x.era = eraLegacy
	case header == "":
		return refuse(kindHeader, "The header MCP-Protocol-Version is missing. Send it with every request, or begin with initialize")
	case legacyVersion(header) && !inBody:
		x.era, x.version = eraLegacy, header
	case legacyVersion(header):
		x.era = eraModern
		return refuse(kindHeader, "The header MCP-Protocol-Version names a revision that does not declare its version in _meta. "+
			"Send the same version in both, one that does")
	default:
		x.era = eraModern
		if header == version2026 {
			x.version = header
			return nil
		}
		return x.unservedVersion(header)
	}
	return nil
}

// unservedVersion answers a header that names a revision we do not serve.
func (x *exchange) unservedVersion(header string) *refusal {
	m := &x.msg
	if m.MetaVersion.Present() && !m.Is(m.MetaVersion, header) {
		return refuse(kindHeader, "The header MCP-Protocol-Version differs from the version in _meta. Send the same in both")
	}
	refused := refuse(kindVersion, "This protocol version is not served. Use one of those in supported")
	refused.requested = "unknown"
	if plainVersion(header) {
		refused.requested = header
	}
	return refused
}

// plainVersion reports whether a version may be repeated in an answer: digits,
// dots and dashes, with at most a v before them.
func plainVersion(v string) bool {
	if len(v) > 32 {
		return false
	}
	for i := range len(v) {
		if c := v[i]; (c < '0' || c > '9') && c != '.' && c != '-' && (c != 'v' || i > 0) {
			return false
		}
	}
	return len(v) > 0
}

// checkModern checks what every modern message has to carry, and that the
// headers say what the body says. The body is what counts; a header that
// differs may have steered something before us, so the request is refused.
func (x *exchange) checkModern() *refusal {
	m := &x.msg
	notification := x.id == nil
	switch {
	case m.Meta.Present() && m.Meta.Kind != jsonrpc.Object:
		return refuse(kindMeta, "The member params._meta has to be an object")
	case m.MetaVersion.Present() && !m.Is(m.MetaVersion, x.version):
		return refuse(kindHeader, "The header MCP-Protocol-Version differs from the version in _meta. Send the same in both")
	case notification:
		// The revision defines no headers for notifications.
	case !m.MetaVersion.Present():
		return refuse(kindMeta, "params._meta lacks io.modelcontextprotocol/protocolVersion")
	case m.MetaCapabilities.Kind != jsonrpc.Object:
		return refuse(kindMeta, "params._meta lacks io.modelcontextprotocol/clientCapabilities, an object that may be empty")
	case m.MetaCapabilities.End-m.MetaCapabilities.Start > maxCapabilities:
		return refuse(kindMeta, "_meta[io.modelcontextprotocol/clientCapabilities] is too large")
	}
	if refused := x.checkWishes(); refused != nil {
		return refused
	}
	method := headerValue(x.r.Header, "Mcp-Method")
	switch {
	case method == "" && notification:
	case method == "":
		return refuse(kindHeader, "The header Mcp-Method is missing. It has to repeat the method")
	case !m.Is(m.Method, method):
		return refuse(kindHeader, "The header Mcp-Method differs from the method in the body")
	}
	return x.checkName()
}

// checkName checks Mcp-Name, for the methods that have one.
func (x *exchange) checkName() *refusal {
	header, m := headerValue(x.r.Header, "Mcp-Name"), &x.msg
	if x.id == nil {
		return nil
	}
	said := m.Name
	switch {
	case m.Is(m.Method, toolsCall), m.Is(m.Method, "prompts/get"):
		if said.Kind != jsonrpc.String {
			return refuse(kindParams, "params.name has to be a name")
		}
	case m.Is(m.Method, "resources/read"):
		if said = m.URI; said.Kind != jsonrpc.String {
			return refuse(kindParams, "params.uri has to be a URI")
		}
	default:
		return nil
	}
	if header == "" {
		return refuse(kindHeader, "The header Mcp-Name is missing. It has to repeat params.name, or params.uri of resources/read")
	}
	name, ok := decodeHeader(header)
	if !ok {
		return refuse(kindHeader, "The header Mcp-Name cannot be read. Send plain ASCII, or =?base64?...?= of the UTF-8 text")
	}
	if !m.Is(said, name) {
		return refuse(kindHeader, "The header Mcp-Name differs from what the body says")
	}
	return nil
}
