package fast

// parts is how many a row has: one more than the window, which reaches back into
// the part that is partly over and counts whole.
const parts = tenths + 1

// row is what one node has admitted of one key.
type row struct {
	by       *peer  // whose it is; nil for our own
	sequence uint64 // of the frame that told it
	at       int64  // when the newest part began, by our clock; the number of a window of the clock
	width    int64
	n        [parts]uint32 // the newest first
	length   int           // parts that count
	sum      uint64
}

// ends is when a part counts no longer.
func (r *row) ends(i int, c *counter, l *limit) int64 {
	if l.clock {
		return c.closes
	}
	return r.at - int64(i)*r.width + r.width + l.window
}

// tidy drops parts that count no longer.
func (r *row) tidy(now int64, c *counter, l *limit) {
	if l.clock && r.at < c.number {
		r.clear()
		return
	}
	for r.length > 0 && (r.n[r.length-1] == 0 || now >= r.ends(r.length-1, c, l)) {
		r.length--
		r.sum -= uint64(r.n[r.length])
		r.n[r.length] = 0
	}
}

func (r *row) clear() {
	clear(r.n[:])
	r.length, r.sum = 0, 0
}

// add counts a spend of a moment no earlier than those before, and returns when its
// part began. The row must be tidy.
func (r *row) add(at, width int64, cost uint32) int64 {
	if r.length == 0 {
		r.at = at
	}
	r.width = width
	if steps := (at - r.at) / width; steps > 0 {
		steps = min(steps, parts)
		copy(r.n[steps:], r.n[:parts-steps])
		clear(r.n[:steps])
		r.at = at
		r.length = min(r.length+int(steps), parts)
		r.sum = 0
		for _, n := range r.n[:r.length] {
			r.sum += uint64(n)
		}
	}
	r.n[0] += cost
	r.sum += uint64(cost)
	r.length = max(r.length, 1)
	return r.at
}

// take takes back a cost from the part that began at a time.
func (r *row) take(began int64, cost uint32, clock bool) bool {
	i := int64(0)
	switch {
	case clock && began != r.at, !clock && began > r.at:
		return false
	case !clock:
		i = (r.at - began) / r.width
	}
	if i >= int64(r.length) {
		return false
	}
	cost = min(cost, r.n[i])
	r.n[i] -= cost
	r.sum -= uint64(cost)
	return cost > 0
}

// began is when the part of now began.
func (c *counter) began(now int64, l *limit) int64 {
	if l.clock {
		return c.number
	}
	return now - now%l.width
}

// item is one key of one limit.
type item struct {
	limit  uint32
	hi, lo uint64
}

// counter is one key of one limit, over all nodes.
type counter struct {
	item
	own    row
	others []row
	heard  uint64 // the sum of others
	next   int64  // when some of that counts no longer
	dirty  bool   // others are to be told
	since  int64  // since when
	fresh  uint32 // what was admitted since they were told

	number, closes int64 // of windows of the clock: the one that counts, and when it ends
}

// tidy makes all rows tell what counts now.
func (c *counter) tidy(now, wall int64, l *limit) {
	if l.clock {
		if number := l.number(now, wall); number > c.number {
			c.number, c.next = number, 0
		}
		// Others may have begun it before our clock does.
		c.closes = max((c.number+1)*l.window-wall, now+1)
	}
	c.own.tidy(now, c, l)
	if now >= c.next {
		c.settle(now, l)
	}
}

// settle adds up what others have admitted.
func (c *counter) settle(now int64, l *limit) {
	c.heard, c.next = 0, 1<<63-1
	kept := c.others[:0]
	for i := range c.others {
		r := &c.others[i]
		if r.tidy(now, c, l); r.length == 0 {
			continue
		}
		c.heard += r.sum
		c.next = min(c.next, r.ends(r.length-1, c, l))
		kept = append(kept, *r)
	}
	clear(c.others[len(kept):])
	c.others = kept
}

// total is what counts, over all nodes.
func (c *counter) total() uint64 { return c.own.sum + c.heard }

// idle reports whether the counter may be forgotten.
func (c *counter) idle() bool { return c.total() == 0 && !c.dirty }
