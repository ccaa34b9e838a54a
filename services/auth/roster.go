package auth

import (
	"sync"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// maxPlaces bounds the tools in all rosters that are remembered. Past it all are
// forgotten, which costs some milliseconds for each thousand of tools.
const maxPlaces = 1 << 18

// rosters remembers what policies can say of all tools of one backdrop, and ends with
// that: other policies or tools are another backdrop. A roster is by the policies that
// can matter to a caller, so callers with the same roles have one, however many they
// are; what else policies read of a caller they read for each list. The zero value is
// empty.
type rosters struct {
	mu    sync.Mutex
	known map[string]func() *policy.Roster
}

// roster returns the roster of all tools for a subject. Whoever needs one that is
// being made waits for it.
func (b *backdrop) roster(subject *policy.Subject) *policy.Roster {
	v := b.set.View(subject, actions[authv1.Action_ACTION_TOOLS_CALL].policy)
	key := v.Key()
	b.rosters.mu.Lock()
	made := b.rosters.known[key]
	if made == nil {
		if b.rosters.known == nil || (len(b.rosters.known)+1)*len(b.tools) > maxPlaces {
			b.rosters.known = make(map[string]func() *policy.Roster)
		}
		made = sync.OnceValue(func() *policy.Roster {
			objects := make([]*policy.Object, len(b.tools))
			for _, t := range b.tools {
				objects[t.place] = t.object
			}
			return v.Roster(objects)
		})
		b.rosters.known[key] = made
	}
	b.rosters.mu.Unlock()
	return made()
}

// callable returns those of the named tools that a caller may call with some arguments.
func (b *backdrop) callable(c *caller, names []string, situation policy.Situation) (allowed []string) {
	roll := b.roster(c.subject).In(c.subject, situation)
	for _, name := range names {
		if t := b.tools[name]; t != nil && c.allowsTool(name) && roll.Callable(t.place) {
			allowed = append(allowed, name)
		}
	}
	return allowed
}
