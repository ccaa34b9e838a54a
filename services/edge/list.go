package edge

import (
	"context"
	"slices"
	"strings"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// listTools answers with the tools that the caller may call, in the order of
// their names, a page at a time.
func (x *exchange) listTools() *refusal {
	after, refused := x.cursor(toolName)
	if refused != nil {
		return refused
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	// Asked each time, so a tool that came or went is seen at once; the executor
	// sends nothing when nothing has changed.
	all, err := x.s.tools.Get(ctx, x.s.executor)
	if err != nil {
		return x.peerFailed("executor", err)
	}
	allowed, refused := x.allowed(all)
	if refused != nil {
		return refused
	}
	shown := all.shown
	if x.era == eraLegacy {
		shown = all.legacy
	}
	x.answerPage(page{
		member: "tools", names: all.names, after: after, allowed: allowed,
		show: func(b []byte, i int) []byte { return append(b, shown[i]...) },
		size: func(i int) int { return len(shown[i]) },
	})
	return nil
}

// cursor returns after which name the page starts that is asked for.
func (x *exchange) cursor(could func(string) bool) (after string, refused *refusal) {
	m := &x.msg
	if m.Cursor.Present() && m.Cursor.Kind != jsonrpc.String {
		return "", refuse(kindParams, "params.cursor has to be a string")
	}
	after, ok := decodeCursor(m.Text(m.Cursor), could)
	if !ok {
		return "", refuse(kindParams, "params.cursor is not one that this server gave out. Start again without one")
	}
	return after, nil
}

// page is a part of a list.
type page struct {
	member  string                       // of the result
	names   []string                     // all there are, sorted
	after   string                       // the last name of the page before
	allowed func(i int) bool             // whether the caller may know of it
	show    func(b []byte, i int) []byte // appends what stands behind a name
	size    func(i int) int              // how much that is; nil if it is little
}

// answerPage answers with a page.
func (x *exchange) answerPage(p page) {
	x.beginResult()
	x.out = append(append(append(x.out, '"'), p.member...), `":[`...)
	first, _ := slices.BinarySearch(p.names, p.after)
	if p.size != nil {
		x.out = slices.Grow(x.out, p.bytes(first, x.s.cfg.PageSize))
	}
	count, last := 0, ""
	for i := first; i < len(p.names); i++ {
		name := p.names[i]
		if name == p.after || !p.allowed(i) {
			continue
		}
		if count == x.s.cfg.PageSize {
			x.out = appendText(append(x.out, `],"nextCursor":`...), encodeCursor(last))
			x.endList(false)
			return
		}
		if count++; count > 1 {
			x.out = append(x.out, ',')
		}
		x.out = p.show(x.out, i)
		last = name
	}
	x.endList(true)
}

// bytes is how much room a page needs at least. A large one that grew bit by bit
// would be copied again and again.
func (p page) bytes(first, count int) int {
	const around = 512 // what ends the answer, about
	n := around
	for i := first; i < len(p.names) && count > 0; i++ {
		if p.allowed(i) {
			n += p.size(i) + len(",")
			count--
		}
	}
	return n
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
func (x *exchange) allowed(all *tools) (func(i int) bool, *refusal) {
	ctx, cancel := x.peerContext()
	defer cancel()
	allowed, resp, err := x.filterTools(ctx, all)
	if err != nil {
		return nil, x.peerFailed("auth", err)
	}
	if resp.GetPrincipal() == nil {
		return nil, x.badCredential(authv1.ChallengeError_CHALLENGE_ERROR_UNSPECIFIED, resp.GetRetryAfter())
	}
	return allowed, nil
}

// filterTools asks auth which of all tools the caller may call, by their position;
// none if the credential is not good. Auth mostly knows the names behind their hash.
func (x *exchange) filterTools(ctx context.Context, all *tools) (allowed func(i int) bool, resp *authv1.FilterToolsResponse, err error) {
	req := &authv1.FilterToolsRequest{Credential: x.credential, Origin: x.origin()}
	if len(all.names) > 0 {
		req.ToolsSha256 = all.hash[:]
		resp, err = x.s.auth.FilterTools(ctx, req)
		if err != nil || resp.GetPrincipal() == nil || len(resp.GetAllowedBits()) > 0 {
			return bits(resp.GetAllowedBits()), resp, err
		}
		req.Tools = all.names
	}
	if resp, err = x.s.auth.FilterTools(ctx, req); err != nil || len(resp.GetAllowedBits()) > 0 {
		return bits(resp.GetAllowedBits()), resp, err
	}
	return among(all.names, resp.GetAllowed()), resp, nil
}

// bits tells which bits are set, the lowest of the first byte first.
func bits(all []byte) func(i int) bool {
	return func(i int) bool { return i/8 < len(all) && all[i/8]>>(i%8)&1 == 1 }
}

// among tells which of some names are among others.
func among(names, others []string) func(i int) bool {
	all := make(map[string]bool, len(others))
	for _, name := range others {
		all[name] = true
	}
	return func(i int) bool { return all[names[i]] }
}

// allowedTargets asks auth which resources or prompts the caller may have, of those
// after a page. It fails closed, too.
func (x *exchange) allowedTargets(action authv1.Action, names []string, after string) (func(i int) bool, *refusal) {
	targets := rest(names, after)
	if len(targets) == 0 {
		return among(names, nil), nil
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	resp, err := x.s.auth.FilterTargets(ctx, &authv1.FilterTargetsRequest{
		Credential: x.credential, Origin: x.origin(), Action: action, Targets: targets,
	})
	if err != nil {
		return nil, x.peerFailed("auth", err)
	}
	if resp.GetPrincipal() == nil {
		return nil, x.badCredential(authv1.ChallengeError_CHALLENGE_ERROR_UNSPECIFIED, resp.GetRetryAfter())
	}
	return among(names, resp.GetAllowed()), nil
}

// listed is what stands in a list of resources, templates or prompts.
type listed[T any] struct {
	name string
	what T
}

// sorted returns what can be listed in the order of its names, each once: a page
// begins after a name.
func sorted[T any](all []T, name func(T) string, could func(string) bool) ([]string, []T) {
	kept := make([]listed[T], 0, len(all))
	for _, what := range all {
		if n := name(what); could(n) {
			kept = append(kept, listed[T]{n, what})
		}
	}
	slices.SortStableFunc(kept, func(a, b listed[T]) int { return strings.Compare(a.name, b.name) })
	kept = slices.CompactFunc(kept, func(a, b listed[T]) bool { return a.name == b.name })
	names, things := make([]string, len(kept)), make([]T, len(kept))
	for i, k := range kept {
		names[i], things[i] = k.name, k.what
	}
	return names, things
}

// rest returns the names that come after a page.
func rest(names []string, after string) []string {
	first, _ := slices.BinarySearch(names, after)
	return names[first:]
}
