package cluster

import "sync"

// news tells all who wait that something has changed. The zero value is ready.
type news struct {
	mu sync.Mutex
	ch chan struct{}
}

// next returns a channel that is closed by the next tell. Take it before looking
// at what may change.
func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
}
