package catalogue

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Farewell is how long a replica that has left can be called by whoever was
// granted a call of what nobody else has. It is less than tool services serve
// after they have taken their announcement back.
const Farewell = 2 * time.Second

// leave drops a replica. Its calls are let finish. If it was the last to have what
// it has, and others have something else, it goes on for [Farewell]: calls are on
// their way that were granted for this and nothing else.
func (c *Catalogue) leave(key, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.services[name]; s != nil && s.members[key] != nil {
		c.remove(s, s.members[key])
	}
}

// remove is leave for one that is there. The caller holds the lock.
func (c *Catalogue) remove(s *service, m *member) {
	delete(s.members, m.key)
	switch {
	case len(s.members) == 0:
		for _, f := range s.fading {
			f.replica.retire()
		}
		delete(c.services, s.name)
		m.replica.retire()
	case s.used(m.definition) || c.closed:
		m.replica.retire()
	default:
		s.fading = append(s.fading, m)
		c.tasks.Go(func() { c.fade(s, m) })
	}
	c.log.Info("replica left", "service", s.name, "replica", m.key)
	c.rebuild()
}

// joined reports whether all of these replicas have told what they have.
func (c *Catalogue) joined(name string, keys []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if s := c.services[name]; s == nil || s.members[key] == nil {
			return false
		}
	}
	return true
}

// leaveLater drops a replica after [Farewell], unless it is announced again.
func (c *Catalogue) leaveLater(key, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[name]
	if s == nil || s.members[key] == nil || c.closed {
		return
	}
	m := s.members[key]
	c.tasks.Go(func() {
		t := time.NewTimer(Farewell)
		defer t.Stop()
		select {
		case <-t.C:
		case <-m.replica.ctx.Done(): // retired
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if s.members[key] == m {
			c.remove(s, m)
		}
	})
}

// fade retires a member when its time is over.
func (c *Catalogue) fade(s *service, m *member) {
	t := time.NewTimer(Farewell)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.replica.ctx.Done(): // retired
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.fading = slices.DeleteFunc(s.fading, func(f *member) bool { return f == m })
	c.rebuild()
	m.replica.retire() // nobody is led to it any more
}

// choose sets what the service has: as before while a replica still says so, else
// what its oldest replica says. That is left for what other replicas say where
// fewer tools are withheld of that, or as many and only there a replica is up.
func (s *service) choose(hold Hold) {
	replicas := make(map[*definition][]*replica)
	var all []*definition // in order of their oldest members
	for _, m := range s.sorted() {
		if replicas[m.definition] == nil {
			all = append(all, m.definition)
		}
		replicas[m.definition] = append(replicas[m.definition], m.replica)
	}
	for _, m := range s.fading {
		replicas[m.definition] = append(replicas[m.definition], m.replica)
	}
	for d, r := range replicas {
		d.pool.replicas.Store(&r)
	}
	if !s.used(s.active) {
		s.active = all[0]
	}
	if len(all) > 1 {
		best := s.active.withheld(hold)
		for _, d := range all {
			n := d.withheld(hold)
			if n < best || n == best && !s.active.pool.Available() && d.pool.Available() {
				s.active, best = d, n
			}
		}
	}
}

func (s *service) sorted() []*member {
	return slices.SortedFunc(maps.Values(s.members), func(a, b *member) int { return cmp.Compare(a.since, b.since) })
}

// others are what replicas have besides what is listed.
func (s *service) others() (all []*definition) {
	for _, m := range slices.Concat(s.sorted(), s.fading) {
		if m.definition != s.active && !slices.Contains(all, m.definition) {
			all = append(all, m.definition)
		}
	}
	return all
}

// withheld counts the tools that would be withheld.
func (d *definition) withheld(hold Hold) (n int) {
	if hold == nil {
		return 0
	}
	for _, t := range d.tools {
		if hold.Judge(t.value.offer(d.provider)) {
			n++
		}
	}
	return n
}

// judge says whether a tool of what is listed is withheld.
func (o *offered) judge(hold Hold, provider bool) Offer {
	offer := o.offer(provider)
	if hold != nil {
		offer.Withheld = hold.Judge(offer)
		hold.Use(offer)
	}
	o.used = o.used || !offer.Withheld
	return offer
}

// addOthers adds the tools of what replicas have besides what is listed. They can
// be called by whoever was granted just that. What was in use may be finished,
// and what never was is judged like all else.
func (s *Snapshot) addOthers(all contents) {
	offers := make(map[string]int)
	for i, o := range s.offers {
		offers[o.Name] = i
	}
	for _, from := range all.services {
		for _, d := range from.others() {
			for _, t := range d.tools {
				if all.tools[t.name].service != from {
					continue // new, or another service's name
				}
				o := t.value.offer(d.provider)
				o.Withheld = !t.value.used && all.hold != nil && all.hold.Judge(o)
				s.others[t.name] = append(s.others[t.name], &Entry{
					Face: t.value.Face, Backend: t.value.backend, Pool: d.pool, Provider: d.provider, Withheld: o.Withheld,
				})
				if i := offers[t.name]; o.Withheld && !s.offers[i].Withheld {
					s.offers[i] = o
				}
			}
		}
	}
}
