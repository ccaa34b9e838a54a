package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// maxLists is how many lists of names are remembered; edges that have the same tools
// ask about the same. Past it all are forgotten, which costs one more question each.
const maxLists = 16

// toolLists are names of tools that were asked about, by their hash: with the hash
// alone the same can be asked again. It holds no verdicts, and of names nothing that
// a caller has made up: they are the edge's. The zero value is empty.
type toolLists struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*toolList
}

// toolList is a list of names.
type toolList struct {
	names []string // never written to
	found atomic.Pointer[foundTools]
}

// foundTools are the tools with the names of a list at one moment.
type foundTools struct {
	in    *backdrop
	tools []*tool // nil where there is none
}

// take returns the list with a hash, and remembers it if its names are given; nil if
// it is not known.
func (l *toolLists) take(hash [sha256.Size]byte, names []string) (*toolList, error) {
	if len(names) == 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.known[hash], nil
	}
	if hashNames(names) != hash {
		return nil, fault.New(codes.InvalidArgument, authv1.Reason_REASON_TOOLS_HASH, "the names of tools do not have the hash given with them")
	}
	list := &toolList{names: slices.Clone(names)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil || len(l.known) >= maxLists {
		l.known = make(map[[sha256.Size]byte]*toolList)
	}
	l.known[hash] = list
	return list, nil
}

// hashNames is the hash of the contract.
func hashNames(names []string) (sum [sha256.Size]byte) {
	var b []byte
	for _, name := range names {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(name))), name...)
	}
	return sha256.Sum256(b)
}

// in returns the tools of the list at one moment.
func (l *toolList) in(b *backdrop) []*tool {
	if found := l.found.Load(); found != nil && found.in == b {
		return found.tools
	}
	tools := b.find(l.names)
	l.found.Store(&foundTools{b, tools})
	return tools
}

// filterTools answers which tools a caller may call, by names or by bits.
func (s *Service) filterTools(b *backdrop, c *caller, req *authv1.FilterToolsRequest, now time.Time) (*authv1.FilterToolsResponse, error) {
	resp, names := &authv1.FilterToolsResponse{Principal: c.principal}, req.GetTools()
	situation := policy.Situation{Origin: req.GetOrigin(), Time: now}
	if req.ToolsSha256 == nil {
		b.callable(c, names, b.find(names), situation, func(i int) { resp.Allowed = append(resp.Allowed, names[i]) })
		return resp, nil
	}
	list, err := s.lists.take([sha256.Size]byte(req.GetToolsSha256()), names)
	if err != nil {
		return nil, err
	}
	if list == nil {
		resp.ToolsNeeded = true
		return resp, nil
	}
	resp.AllowedBits = make([]byte, max(1, (len(list.names)+7)/8))
	b.callable(c, list.names, list.in(b), situation, func(i int) { resp.AllowedBits[i/8] |= 1 << (i % 8) })
	return resp, nil
}
