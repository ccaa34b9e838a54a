package mcpbridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

const (
	maxPages = 1000
	// maxLogged bounds how much is logged of what is left out of one listing.
	maxLogged = 20
)

// list asks for all that an upstream has. What breaks a rule is left out.
func (u *upstream) list(ctx context.Context, s *client.Session) (*offer, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	o := &offer{completion: s.Capabilities().Completions != nil}
	left := &leftOut{u: u}
	defer left.total()
	c := s.Capabilities()
	if c.Tools != nil {
		seen := map[string]bool{}
		err := u.pages(ctx, s, "tools/list", "tools", func(raw json.RawMessage) {
			t, err := u.cfg.readTool(raw, s.Modern())
			switch {
			case errors.Is(err, errFiltered):
			case err != nil:
				left.out("tool", t.name, err)
			case seen[t.name]:
				left.out("tool", t.name, errTwice)
			default:
				seen[t.name] = true
				o.tools = append(o.tools, t)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if c.Resources != nil {
		seen := map[string]bool{}
		err := u.pages(ctx, s, "resources/list", "resources", func(raw json.RawMessage) {
			r, err := readResource(raw)
			if err == nil && seen[r.GetUri()] {
				err = errTwice
			}
			if err != nil {
				left.out("resource", r.GetName(), err)
				return
			}
			seen[r.GetUri()] = true
			o.resources = append(o.resources, r)
		})
		if err != nil {
			return nil, err
		}
		err = u.pages(ctx, s, "resources/templates/list", "resourceTemplates", func(raw json.RawMessage) {
			t, err := readTemplate(raw)
			if err != nil {
				left.out("template", "", err)
				return
			}
			o.templates = append(o.templates, newTemplate(t))
		})
		if err != nil {
			return nil, err
		}
	}
	if c.Prompts != nil {
		seen := map[string]bool{}
		err := u.pages(ctx, s, "prompts/list", "prompts", func(raw json.RawMessage) {
			p, err := u.cfg.readPrompt(raw)
			if err == nil && seen[p.name] {
				err = errTwice
			}
			if err != nil {
				left.out("prompt", p.name, err)
				return
			}
			seen[p.name] = true
			o.prompts = append(o.prompts, p)
		})
		if err != nil {
			return nil, err
		}
	}
	return o, nil
}

var errTwice = errors.New("it is there twice")

// pages calls a list method until there is no more, or as much as is taken.
func (u *upstream) pages(ctx context.Context, s *client.Session, method, member string, each func(json.RawMessage)) error {
	var cursor json.RawMessage
	n := 0
	for range maxPages {
		params := map[string]json.RawMessage{}
		if cursor != nil {
			params["cursor"] = cursor
		}
		raw, err := s.Do(ctx, &client.Call{Method: method, Params: params})
		if e, ok := errors.AsType[*client.Error](err); ok && (e.Code == client.CodeMethodNotFound || method == "resources/templates/list") {
			return nil // a server without some of what it has declared
		}
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		var page map[string]json.RawMessage
		var items []json.RawMessage
		if json.Unmarshal(raw, &page) != nil || json.Unmarshal(page[member], &items) != nil {
			return fmt.Errorf("%s: %w", method, errResult)
		}
		for _, item := range items {
			if n++; n > u.cfg.MaxTools {
				u.log.Warn("the upstream has more than is taken", "method", method, "taken", u.cfg.MaxTools)
				return nil
			}
			each(item)
		}
		var next string
		if json.Unmarshal(page["nextCursor"], &next) != nil || next == "" {
			return nil
		}
		cursor = page["nextCursor"]
	}
	u.log.Warn("the upstream has more pages than are read", "method", method)
	return nil
}

// leftOut logs what is left out of a listing, up to a bound.
type leftOut struct {
	u *upstream
	n int
}

func (l *leftOut) out(kind, name string, err error) {
	if l.n++; l.n <= maxLogged {
		if len(name) > 128 {
			name = name[:128]
		}
		l.u.log.Warn("left out of what the upstream has", "kind", kind, "name", client.Printable(name), "err", err)
	}
}

func (l *leftOut) total() {
	if l.n > maxLogged {
		l.u.log.Warn("more was left out of what the upstream has", "count", l.n)
	}
}
