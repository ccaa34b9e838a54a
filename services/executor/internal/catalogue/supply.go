package catalogue

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
)

// breath is how long a provider is left alone after it had news, so that one
// that always has news costs no more than that.
const breath = 100 * time.Millisecond

var errUnusable = errors.New("what it says cannot be used")

// supply keeps up with a replica of a provider until ctx is done. While it
// cannot be asked, what it had stays listed, and counts as down.
func (c *Catalogue) supply(ctx context.Context, key, name, address string) {
	const soon = 200 * time.Millisecond
	for wait := soon; ; {
		joined, err := c.supplyOnce(ctx, key, name, address)
		if ctx.Err() != nil {
			return
		}
		c.lose(ctx, key, name, true)
		if joined {
			wait = soon
		}
		if wait == soon { // once for each outage
			c.log.Warn("a provider cannot be followed", "service", name, "replica", key, "err", err)
			c.count("provider", 1)
		}
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// supplyOnce follows a replica until its watch ends. It reports whether the
// replica has joined.
func (c *Catalogue) supplyOnce(ctx context.Context, key, name, address string) (joined bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := c.opts.Dial(name, address)
	if err != nil {
		return false, err
	}
	defer func() {
		if err := conn.Close(); err != nil {
			c.log.Warn("close connection", "err", err)
		}
	}()
	w, err := provider.Watch(ctx, conn, c.check, c.tasks.Go)
	if err != nil {
		return false, err
	}
	news := provider.News{Changed: true}
	for {
		if news.Changed {
			lists, err := provider.Ask(ctx, conn, w.Has())
			if err != nil {
				return joined, err
			}
			ok, err := c.joinLists(ctx, key, name, address, lists)
			if err != nil || !ok {
				return joined, errors.Join(err, errUnusable)
			}
			joined = true
			c.lose(ctx, key, name, false)
		}
		c.updated(name, news.Updated)
		if !pause(ctx, breath) {
			return joined, ctx.Err()
		}
		if news, err = w.Next(ctx); err != nil {
			return joined, err
		}
	}
}
