package jsonschema

// costs follows the way that the validator takes through a value, and counts.
// It goes at least wherever the validator goes, and gives up when there is
// nothing left to spend: two small documents can make that way as long as they
// like (a schema that applies itself twice to each element of an array makes it
// double with each level of nesting).
type costs struct{ left int }

func (c *costs) spend(n *node, v *value, depth int) {
	if c.left < 0 || n.raw.object == nil {
		c.left--
		return
	}
	// The validator writes a value that is wrong into its message, and each
	// schema around it writes that message into its own.
	c.left -= n.weight + v.size*(8+depth)/64 + n.program*v.size/16
	for _, same := range n.same {
		c.spend(same, v, depth+1)
	}
	if n.ref != nil {
		c.spend(n.ref, v, depth+1)
	}
	for i, e := range v.array {
		if prefix := n.lists["prefixItems"]; i < len(prefix) {
			c.spend(prefix[i], e, depth+1)
		}
		if prefix := n.lists["items"]; i < len(prefix) {
			c.spend(prefix[i], e, depth+1)
		}
		for _, name := range []string{"items", "additionalItems", "contains", "unevaluatedItems"} {
			if each := n.single[name]; each != nil {
				c.spend(each, e, depth+1)
			}
		}
	}
	for _, name := range v.names {
		c.member(n, v.object[name], name, depth+1)
	}
}

func (c *costs) member(n *node, m *value, name string, depth int) {
	if c.left < 0 {
		return
	}
	if own := n.maps["properties"][name]; own != nil {
		c.spend(own, m, depth)
	}
	for p, each := range n.maps["patternProperties"] {
		if n.patterns[p].MatchString(name) {
			c.spend(each, m, depth)
		}
	}
	for _, other := range []string{"additionalProperties", "unevaluatedProperties"} {
		if each := n.single[other]; each != nil {
			c.spend(each, m, depth)
		}
	}
	if each := n.single["propertyNames"]; each != nil {
		c.spend(each, &value{plain: name, size: len(name)}, depth)
	}
}
