package conformance

import (
	"sync"

	"google.golang.org/grpc"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

const (
	changingTool   = "test_dynamic_tool"
	changingPrompt = "test_dynamic_prompt"
)

// moment is the state of what can change, as counts of changes. The changing
// tool and prompt are listed after each odd change.
type moment struct{ tools, prompts, watched uint64 }

func (m moment) hasTool() bool   { return m.tools%2 == 1 }
func (m moment) hasPrompt() bool { return m.prompts%2 == 1 }

// lists is the moment and how to learn of the next. Because watchers compare
// moments rather than queue changes, a slow one costs nothing and misses nothing
// but what has been undone.
type lists struct {
	mu      sync.Mutex
	now     moment
	changed chan struct{} // closed by the next change
}

// look returns the moment and a channel that is closed when it is over.
func (l *lists) look() (moment, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now, l.changed
}

// change makes a new moment and returns it.
func (l *lists) change(edit func(*moment)) moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	edit(&l.now)
	close(l.changed)
	l.changed = make(chan struct{})
	return l.now
}

// changeFixtures change what is listed, and have the tool that comes and goes.
func (p *Provider) changeFixtures() []fixture {
	all := []fixture{{
		name: "test_trigger_tool_change", description: "Adds the tool " + changingTool + ", or removes it again.", schema: nothing,
		play: func(c *call) (*providerv1.CallToolResponse, error) {
			m := c.provider.lists.change(func(m *moment) { m.tools++ })
			return say(changed(changingTool, m.hasTool()))
		},
	}, {
		name: "test_trigger_prompt_change", description: "Adds the prompt " + changingPrompt + ", or removes it again.", schema: nothing,
		play: func(c *call) (*providerv1.CallToolResponse, error) {
			m := c.provider.lists.change(func(m *moment) { m.prompts++ })
			return say(changed(changingPrompt, m.hasPrompt()))
		},
	}, {
		name: "test_trigger_resource_update", description: "Changes the contents of the resource " + watchedURI + ".", schema: nothing,
		play: func(c *call) (*providerv1.CallToolResponse, error) {
			c.provider.lists.change(func(m *moment) { m.watched++ })
			return say(watchedURI + " has changed")
		},
	}}
	if m, _ := p.lists.look(); m.hasTool() {
		all = append(all, fixture{
			name: changingTool, description: "Is listed after every other change.", schema: nothing,
			play: func(*call) (*providerv1.CallToolResponse, error) { return say("This tool is listed now.") },
		})
	}
	return all
}

func changed(name string, listed bool) string {
	if listed {
		return name + " is listed now"
	}
	return name + " is no longer listed"
}

// Watch implements [providerv1.ProviderServiceServer].
func (p *Provider) Watch(_ *providerv1.WatchRequest, stream grpc.ServerStreamingServer[providerv1.WatchResponse]) error {
	seen, over := p.lists.look()
	next := &providerv1.WatchResponse{HasTools: true, HasResources: true, HasPrompts: true, HasCompletion: true}
	for {
		if err := stream.Send(next); err != nil {
			return err
		}
		select {
		case <-over:
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-p.ended:
			return nil
		}
		var now moment
		now, over = p.lists.look()
		next = &providerv1.WatchResponse{ToolsChanged: now.tools != seen.tools, PromptsChanged: now.prompts != seen.prompts}
		if now.watched != seen.watched {
			next.UpdatedUris = []string{watchedURI}
		}
		seen = now
	}
}
