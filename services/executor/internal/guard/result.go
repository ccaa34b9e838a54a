package guard

import (
	"strconv"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Text looks at one text of a result, or of what is told on the way to it.
func (c *Check) Text(text, pointer string) (string, *Blocked) {
	blocked := c.Together(func() (blocked *Blocked) {
		text, blocked = c.text(auditv1.GuardSide_GUARD_SIDE_RESULT, "", text, false, at(pointer))
		return blocked
	})
	return text, blocked
}

// Result looks at all texts of a result and changes it where they must be. Images,
// sounds, blobs and URIs are not looked at.
func (c *Check) Result(r *providerv1.ToolResult) *Blocked {
	return c.Together(func() *Blocked { return c.result(r) })
}

func (c *Check) result(r *providerv1.ToolResult) *Blocked {
	for i, content := range r.GetContent() {
		if blocked := c.Content(content, "/content/"+strconv.Itoa(i)); blocked != nil {
			return blocked
		}
	}
	if blocked := c.optional(&r.Structured, "/structuredContent"); blocked != nil {
		return blocked
	}
	return c.optional(&r.Meta, "/_meta")
}

// Content looks at the texts of one block.
func (c *Check) Content(b *providerv1.Content, under string) (blocked *Blocked) {
	switch k := b.GetKind().(type) {
	case *providerv1.Content_Text:
		k.Text, blocked = c.Text(k.Text, under+"/text")
	case *providerv1.Content_Resource:
		blocked = c.Contents(k.Resource, under+"/resource")
	case *providerv1.Content_ResourceLink:
		blocked = c.texts(under, member{"/name", &k.ResourceLink.Name}, member{"/title", &k.ResourceLink.Title}, member{"/description", &k.ResourceLink.Description})
	case *providerv1.Content_Other:
		blocked = c.optional(&k.Other, under)
	}
	if blocked != nil {
		return blocked
	}
	return c.optional(&b.Meta, under+"/_meta")
}

// Contents looks at the texts of a resource that was read.
func (c *Check) Contents(r *providerv1.ResourceContents, under string) (blocked *Blocked) {
	if t, ok := r.GetBody().(*providerv1.ResourceContents_Text); ok {
		if t.Text, blocked = c.Text(t.Text, under+"/text"); blocked != nil {
			return blocked
		}
	}
	return c.optional(&r.Meta, under+"/_meta")
}

type member struct {
	name string
	text *string
}

func (c *Check) texts(under string, all ...member) (blocked *Blocked) {
	for _, m := range all {
		if *m.text, blocked = c.Text(*m.text, under+m.name); blocked != nil {
			return blocked
		}
	}
	return nil
}

// optional looks at JSON that may be missing.
func (c *Check) optional(raw *[]byte, under string) (blocked *Blocked) {
	if len(*raw) > 0 {
		*raw, blocked = c.JSON(*raw, under)
	}
	return blocked
}
