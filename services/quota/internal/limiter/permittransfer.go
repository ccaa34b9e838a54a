package limiter

import (
	"slices"
	"time"
)

// Hold is a permit in the count of one limit, as nodes tell it to each other.
type Hold struct {
	Limit uint32
	Key   Key
	// Left is how long it lives from now.
	Left time.Duration
}

// Permit is the part of a permit that one node counts.
type Permit struct {
	ID    string
	Holds []Hold
}

// Save tells what lives of a permit for keys that want wants; nothing if it has
// ended.
func (p *Permits) Save(now time.Duration, id string, want func(Key) bool) Permit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.save(now, id, want)
}

func (p *Permits) save(now time.Duration, id string, want func(Key) bool) Permit {
	saved := Permit{ID: id}
	if taken := p.live[id]; taken != nil {
		for _, h := range taken.holds {
			if h.index >= 0 && h.ends > now && want(h.of.key) {
				saved.Holds = append(saved.Holds, Hold{h.of.limit, h.of.key, h.ends - now})
			}
		}
	}
	return saved
}

// Load makes a permit what Save has told of it, for keys that want wants; holds
// for other keys stay. It fails with ErrFull.
func (p *Permits) Load(now time.Duration, saved Permit, want func(Key) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.live[saved.ID]
	if taken != nil {
		for _, h := range slices.Clone(taken.holds) {
			if h.index >= 0 && want(h.of.key) {
				p.drop(h)
			}
		}
		taken.holds = slices.DeleteFunc(taken.holds, func(h *hold) bool { return h.index < 0 })
	}
	for _, h := range saved.Holds {
		if h.Left <= 0 || h.Limit >= uint32(len(*p.specs.Load())) || !want(h.Key) {
			continue
		}
		if p.live[saved.ID] == nil {
			if p.full(now) {
				return ErrFull
			}
			taken = &permit{id: saved.ID}
			p.live[saved.ID] = taken
		}
		p.hold(&hold{permit: taken, of: holder{h.Limit, h.Key}, ends: now + min(h.Left, p.spec(h.Limit).TTL)})
	}
	return nil
}

// Page returns up to most permits that live for keys that want wants, in the
// order of their ids after the given one, and reports whether there are more.
func (p *Permits) Page(now time.Duration, want func(Key) bool, after string, most int) (page []Permit, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for id, taken := range p.live {
		if id > after && slices.ContainsFunc(taken.holds, func(h *hold) bool { return h.index >= 0 && want(h.of.key) }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if len(ids) > most {
		ids, more = ids[:most], true
	}
	for _, id := range ids {
		page = append(page, p.save(now, id, want))
	}
	return page, more
}

// Forget drops all permits for keys that want wants.
func (p *Permits) Forget(want func(Key) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for of, q := range p.holds {
		if want(of.key) {
			for _, h := range slices.Clone(*q) {
				p.drop(h)
			}
		}
	}
}
