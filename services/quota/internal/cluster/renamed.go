package cluster

// Renamed says that the limits of Limiter and Permits are others than before.
func (n *Node) Renamed() {
	n.rates.Store(newNames(n.o.Limiter.Names()))
	n.permits.Store(newNames(n.o.Permits.Names()))
	n.denials.forget() // a limit may admit more now
}
