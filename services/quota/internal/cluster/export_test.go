package cluster

import "github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"

// ID is under which a node is a member now.
func (n *Node) ID() string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.id
}

// Nodes of a key, by the view of a node.
func (n *Node) OwnerAndHeir(k limiter.Key) (owner, heir string) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.view.owner(slotOf(k)), n.view.heir(slotOf(k))
}

// Doubts is how many slots a node owns without knowing all that counts.
func (n *Node) Doubts() int { return int(n.doubting()) }

// Uncopied is what heirs do not have yet.
func (n *Node) Uncopied() int { return int(n.uncopied()) }
