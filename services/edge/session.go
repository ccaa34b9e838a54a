package edge

import (
	"context"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

// Sessions keeps what clients have set in legacy sessions, for all edges.
type Sessions interface {
	// Get returns what was set in a session, possibly nothing.
	Get(ctx context.Context, id string) (*edgev1.SessionState, error)
	// Update sets it anew by change, which is called again when another edge was
	// faster. An error of change ends it.
	Update(ctx context.Context, id string, change func(*edgev1.SessionState) error) error
}

const (
	// sessionHeader is the name in its canonical form.
	sessionHeader  = "Mcp-Session-Id"
	sessionPurpose = "session-id"
)

// findSession takes the session of a legacy request from its header. One that is
// not good is answered with 404, by which clients know to begin a new one. None
// at all is fine: such a client has no use of what sessions are for. The modern
// era has no sessions, and initialize begins one.
func (x *exchange) findSession() *refusal {
	if x.era != eraLegacy || x.msg.Is(x.msg.Method, "initialize") {
		return nil
	}
	lines, sent := x.r.Header[sessionHeader]
	if !sent || len(lines) == 0 {
		return nil
	}
	found, ok := x.s.sessions.Open(headerValue(x.r.Header, sessionHeader), x.principal.GetId(), x.start)
	if !ok {
		return refuse(kindSession, "The session is over, or is not one of this credential. Begin a new one with initialize")
	}
	x.session = &found
	if x.client == "" { // only initialize says it
		x.client = found.Client
	}
	return nil
}

// beginSession gives the answer to initialize a session id.
func (x *exchange) beginSession() {
	id := x.s.sessions.Make(x.principal.GetId(), session.Session{
		Expires: time.Now().Add(bus.SessionLife), Version: x.version, Capabilities: x.declared(),
		Client: printable(x.client, session.MaxClient),
	})
	x.w.Header()[sessionHeader] = []string{id}
}

// declared is what the client says in initialize that it can be asked for.
func (x *exchange) declared() session.Capabilities {
	var can session.Capabilities
	if m := &x.msg; m.Capabilities.Kind == jsonrpc.Object {
		eachMember(m.Raw(m.Capabilities), func(name string, value jsontext.Value) { can |= capabilitiesOf(name, value) })
	}
	return can
}

// capabilitiesOf reads one member of an object of client capabilities. What has
// another form than it should have is not there, and so is what is not known.
func capabilitiesOf(name string, value jsontext.Value) session.Capabilities {
	if value.Kind() != jsontext.KindBeginObject {
		return 0
	}
	var can session.Capabilities
	part := func(want string, bit session.Capabilities) {
		eachMember(value, func(name string, value jsontext.Value) {
			if name == want && value.Kind() == jsontext.KindBeginObject {
				can |= bit
			}
		})
	}
	switch name {
	case "elicitation":
		part("form", session.ElicitForm)
		part("url", session.ElicitURL)
		if can == 0 { // before there were pages there were only forms, and no word for them
			can = session.ElicitForm
		}
	case "sampling":
		can = session.Sample
		part("tools", session.SampleTools)
		part("context", session.SampleContext)
	case "roots":
		can = session.Roots
	}
	return can
}

// capabilitiesJSON writes declared capabilities as providers read them, which is
// the modern form.
func capabilitiesJSON(can session.Capabilities) []byte {
	type part struct {
		name string
		bit  session.Capabilities
	}
	b := []byte{'{'}
	for _, whole := range []struct {
		name  string
		any   session.Capabilities
		parts []part
	}{
		{"elicitation", session.ElicitForm | session.ElicitURL, []part{{"form", session.ElicitForm}, {"url", session.ElicitURL}}},
		{"sampling", session.Sample, []part{{"tools", session.SampleTools}, {"context", session.SampleContext}}},
		{"roots", session.Roots, nil},
	} {
		if can&whole.any == 0 {
			continue
		}
		b = append(append(appendComma(b), '"'), whole.name...)
		b = append(b, `":{`...)
		for _, p := range whole.parts {
			if can.Has(p.bit) {
				b = append(append(append(appendComma(b), '"'), p.name...), `":{}`...)
			}
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendComma separates a member from the one before, if there is one.
func appendComma(b []byte) []byte {
	if b[len(b)-1] == '{' {
		return b
	}
	return append(b, ',')
}

// refuseHTTPMethod answers other methods than POST. In a session there is a stream
// to GET; that the server does not let clients end one the revision allows.
func (x *exchange) refuseHTTPMethod() *refusal {
	x.w.Header()["Allow"] = x.s.words.headers.allowPost
	message := "MCP is served by POST only"
	if _, sent := x.r.Header[sessionHeader]; sent {
		x.w.Header()["Allow"] = x.s.words.headers.allowStream
		message = "In a session MCP is served by POST, and by GET with Accept: text/event-stream. A session ends by itself"
	}
	return &refusal{kind: kindHTTPMethod, message: message, recorded: true}
}

// wantsStream reports whether the request is one for the stream of a legacy
// session.
func (x *exchange) wantsStream() bool {
	_, sent := x.r.Header[sessionHeader]
	return sent && x.r.Method == http.MethodGet && acceptsStream(x.r.Header) &&
		legacyVersion(headerValue(x.r.Header, "Mcp-Protocol-Version"))
}
