package cluster

import (
	"context"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// longestPermit is how long the id of a permit may be, in bytes.
const longestPermit = 64

// bounded hands on requests that keep to their bounds, and answers all others with
// nothing.
func bounded(on func(context.Context, *quotav1.ClusterRequest) *quotav1.ClusterReply) func(context.Context, *quotav1.ClusterRequest) *quotav1.ClusterReply {
	return func(ctx context.Context, q *quotav1.ClusterRequest) *quotav1.ClusterReply {
		if !withinBounds(q) {
			return &quotav1.ClusterReply{}
		}
		return on(ctx, q)
	}
}

// withinBounds reports whether a request keeps to those bounds of its contract on
// which what it costs depends: what is kept of it, and what is made for each part of
// it; those of asks are looked at when they are read (groupsOf). Handlers bear anything else, and to validate it all takes as long as to decode it.
func withinBounds(q *quotav1.ClusterRequest) bool {
	f := q.GetCopy()
	for _, c := range f.GetCounters() {
		if len(c.GetWords()) > limiter.MaxWords {
			return false
		}
	}
	for _, p := range f.GetPermits() {
		if len(p.GetId()) > longestPermit {
			return false
		}
	}
	return true
}
