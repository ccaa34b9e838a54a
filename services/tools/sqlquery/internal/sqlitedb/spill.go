package sqlitedb

import (
	"context"
	"errors"
	"time"
)

// spillCheck is how often the temporary files of a running query are measured.
// Most queries end before the first time.
const spillCheck = 50 * time.Millisecond

// errSpill is the cause of the end of a query that wrote too much.
var errSpill = errors.New("too much in temporary files")

// watchSpill returns a context that ends when the temporary files of SQLite in
// this process exceed limit, and what ends the watch.
//
// SQLite sorts and groups what is large in temporary files and has no limit for
// them: within a time limit of seconds one query can write gigabytes, beside the
// files that other services depend on. The files do not tell whose they are, so
// queries that run at the same time share the limit, and its consequence.
func watchSpill(ctx context.Context, limit int64) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	watching := make(chan struct{})
	go func() { // ends with ctx
		defer close(watching)
		tick := time.NewTicker(spillCheck)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if spilled() > limit {
					cancel(errSpill)
				}
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-watching
	}
}
