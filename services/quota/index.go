package quota

// index finds the rules that may match a check by its action and tool, so that
// a check does not touch the rules of other tools.
type index struct {
	actions, tools map[string]int // zero is any that no rule names
	cells          [][]candidate  // by action and tool
}

// candidate is a rule, with the conditions that the cell does not answer.
type candidate struct {
	*rule
	when []condition
}

func newIndex(b *builder) index {
	x := index{actions: make(map[string]int), tools: make(map[string]int)}
	actions := x.number(b, "action", x.actions)
	tools := x.number(b, "tool", x.tools)
	for _, action := range actions {
		for _, tool := range tools {
			var cell []candidate
			for i := range b.rules {
				if c, ok := b.candidate(&b.rules[i], action, tool); ok {
					cell = append(cell, c)
				}
			}
			x.cells = append(x.cells, cell)
		}
	}
	return x
}

// number gives numbers to the values of an attribute that rules name, and
// returns them in order after the empty one, which stands for all others.
func (x *index) number(b *builder, attribute string, numbers map[string]int) []string {
	values := []string{""}
	for _, r := range b.rules {
		for _, c := range r.when {
			if b.attributes[c.attribute] != attribute {
				continue
			}
			for _, v := range c.set.Literals() {
				if numbers[v] == 0 {
					numbers[v] = len(values)
					values = append(values, v)
				}
			}
		}
	}
	return values
}

// candidate answers the conditions of a rule that a cell can answer, and reports
// whether the rule belongs into it. An empty action or tool is any that no rule
// names.
func (b *builder) candidate(r *rule, action, tool string) (candidate, bool) {
	c := candidate{rule: r}
	for _, cond := range r.when {
		var value string
		switch b.attributes[cond.attribute] {
		case "action":
			value = action
		case "tool":
			value = tool
		default:
			c.when = append(c.when, cond)
			continue
		}
		switch {
		case value != "" && !cond.set.Match(value), value == "" && cond.set.Only():
			return candidate{}, false
		case value == "":
			c.when = append(c.when, cond)
		}
	}
	return c, true
}

// at returns the rules that may match.
func (x *index) at(action, tool string) []candidate {
	return x.cells[x.actions[action]*(len(x.tools)+1)+x.tools[tool]]
}

// most is how many limits may match one check.
func (x *index) most() int {
	most := 0
	for _, cell := range x.cells {
		n := 0
		for _, c := range cell {
			rates := len(c.terms.rates)
			for _, o := range c.overrides {
				rates = max(rates, len(o.terms.rates))
			}
			n += rates + len(c.terms.permit) + len(c.terms.quotas)
		}
		most = max(most, n)
	}
	return most
}
