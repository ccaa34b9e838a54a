package auth

import (
	"sync"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// maxPlaces bounds the tools in all rosters that are remembered. Past it all are
// forgotten, which costs some milliseconds for each thousand of tools.
const maxPlaces = 1 << 18

// maxRostered bounds the callers whose roster is remembered. Past it all are forgotten,
// which costs some microseconds each.
const maxRostered = 1 << 14

// rosters remembers what policies can say of all tools of one backdrop, and ends with
// that: other policies or tools are another backdrop. A roster is by the policies that
// can matter to a caller, so callers with the same roles have one, however many they
// are; what else policies read of a caller they read for each list. The zero value is
// empty.
type rosters struct {
	mu    sync.Mutex
	known map[string]func() *policy.Roster // by the key of a view
	// of compares pointers: a caller with other roles is another one.
	of map[*policy.Subject]func() *policy.Roster
}

// roster returns the roster of all tools for a subject. Whoever needs one that is
// being made waits for it.
func (b *backdrop) roster(subject *policy.Subject) *policy.Roster {
	b.rosters.mu.Lock()
	made := b.rosters.of[subject]
	b.rosters.mu.Unlock()
	if made == nil {
		made = b.rosters.find(b.set.View(subject, actions[authv1.Action_ACTION_TOOLS_CALL].policy), subject, b.tools)
	}
	return made()
}

// find returns what makes the roster for a view, or has made it.
func (r *rosters) find(v *policy.View, subject *policy.Subject, tools map[string]*tool) func() *policy.Roster {
	key := v.Key()
	r.mu.Lock()
	defer r.mu.Unlock()
	made := r.known[key]
	if made == nil {
		if r.known == nil || (len(r.known)+1)*len(tools) > maxPlaces {
			r.known, r.of = make(map[string]func() *policy.Roster), nil
		}
		made = sync.OnceValue(func() *policy.Roster {
			objects := make([]*policy.Object, len(tools))
			for _, t := range tools {
				objects[t.place] = t.object
			}
			return v.Roster(objects)
		})
		r.known[key] = made
	}
	if r.of == nil || len(r.of) >= maxRostered {
		r.of = make(map[*policy.Subject]func() *policy.Roster)
	}
	r.of[subject] = made
	return made
}

// callable tells of which of some tools a caller may call with some arguments, by their
// positions. Where there is no tool, nil, he may not.
func (b *backdrop) callable(c *caller, names []string, tools []*tool, situation policy.Situation, yield func(i int)) {
	roll := b.roster(c.subject).In(c.subject, situation)
	for i, t := range tools {
		if t != nil && c.allowsTool(names[i]) && roll.Callable(t.place) {
			yield(i)
		}
	}
}

// find returns the tools with some names, nil where there is none.
func (b *backdrop) find(names []string) []*tool {
	tools := make([]*tool, len(names))
	for i, name := range names {
		tools[i] = b.tools[name]
	}
	return tools
}
