package cluster

import "github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"

// Owner is the member that owns a key by the view of this node, empty if there is
// none, and whether that is this node. It is a hint: another may own the key
// already.
func (n *Node) Owner(k limiter.Key) (id string, mine bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	id = n.view.owner(slotOf(k))
	return id, id != "" && id == n.id
}

// Members are the ids of this node, empty while it is no member, and of all members
// by the view of this node.
func (n *Node) Members() (self string, all []string) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.id, n.view.members
}
