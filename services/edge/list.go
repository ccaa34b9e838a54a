package edge

import (
	"slices"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// listTools answers with the tools that the caller may call, in the order of
// their names, a page at a time.
func (x *exchange) listTools() *refusal {
	m := &x.msg
	if m.Cursor.Present() && m.Cursor.Kind != jsonrpc.String {
		return refuse(kindParams, "params.cursor has to be a string")
	}
	after, ok := decodeCursor(m.Text(m.Cursor))
	if !ok {
		return refuse(kindParams, "params.cursor is not one that this server gave out. Start again without one")
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	// Asked each time, so a tool that came or went is seen at once; the executor
	// sends nothing when nothing has changed.
	all, err := x.s.tools.Get(ctx, x.s.executor)
	if err != nil {
		return x.peerFailed("executor", err)
	}
	allowed, refused := x.allowed(all.names)
	if refused != nil {
		return refused
	}
	x.beginResult()
	x.out = append(x.out, `"tools":[`...)
	first, _ := slices.BinarySearch(all.names, after)
	count, last := 0, ""
	for i := first; i < len(all.names); i++ {
		name := all.names[i]
		if name == after || !allowed[name] {
			continue
		}
		if count == x.s.cfg.PageSize {
			x.out = appendText(append(x.out, `],"nextCursor":`...), encodeCursor(last))
			x.endList(false)
			return nil
		}
		if count++; count > 1 {
			x.out = append(x.out, ',')
		}
		x.out = append(x.out, all.shown[i]...)
		last = name
	}
	x.endList(true)
	return nil
}

func (x *exchange) endList(closing bool) {
	if closing {
		x.out = append(x.out, ']')
	}
	if x.era == eraModern {
		x.out = append(x.out, x.s.words.listEnd...)
	}
	x.endResult()
}

// allowed asks auth which tools the caller may call. It fails closed: without an
// answer nothing is listed.
func (x *exchange) allowed(names []string) (map[string]bool, *refusal) {
	ctx, cancel := x.peerContext()
	defer cancel()
	resp, err := x.s.auth.FilterTools(ctx, &authv1.FilterToolsRequest{
		Credential: x.credential, Origin: x.origin(), Tools: names,
	})
	if err != nil {
		return nil, x.peerFailed("auth", err)
	}
	if resp.GetPrincipal() == nil {
		return nil, x.badCredential()
	}
	allowed := make(map[string]bool, len(resp.GetAllowed()))
	for _, name := range resp.GetAllowed() {
		allowed[name] = true
	}
	return allowed, nil
}
