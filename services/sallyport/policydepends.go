package main

import (
	"slices"
	"strings"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// dependsOn says what would have to be known for a yes or a no, and which policies
// read it, each on a line of its own; nothing if nothing.
func dependsOn(e *authv1.Explanation) (lines []string) {
	for _, d := range e.GetDependsOn() {
		lines = append(lines, dependency(e, d)+" ("+strings.Trim(d.GetPolicy()+", "+d.GetPolicySource(), ", ")+")")
	}
	if len(lines) > 0 {
		return lines
	}
	// Of an auth service that does not tell by which policies.
	if e.GetArgumentsNeeded() {
		lines = append(lines, strings.TrimSpace("the arguments "+e.GetInputs()["arguments"]))
	}
	if e.GetStepsNeeded() {
		lines = append(lines, stepsTaken)
	}
	return lines
}

const stepsTaken = "how many steps the context has taken"

// dependency says what one policy waits for, and what it reads beside that.
func dependency(e *authv1.Explanation, d *authv1.Dependency) string {
	if d.GetApproval() {
		return "the arguments, which whoever approves the call has to see"
	}
	var unknown, known []string
	switch names := d.GetArguments(); {
	case slices.Contains(names, "*"):
		unknown = append(unknown, "all arguments")
	case len(names) > 0:
		unknown = append(unknown, "the arguments "+strings.Join(names, ", "))
	}
	for _, name := range d.GetInputs() {
		if name == "steps" && e.GetStepsNeeded() {
			unknown = append(unknown, stepsTaken)
		} else {
			known = append(known, name)
		}
	}
	if len(unknown) == 0 {
		unknown = append(unknown, "whether there are arguments")
	}
	text := strings.Join(unknown, " and ")
	if len(known) > 0 {
		text += ", beside " + strings.Join(known, ", ")
	}
	return text
}

// askAgain says how to ask so that there is a yes or a no.
func askAgain(e *authv1.Explanation) string {
	var flags []string
	if e.GetArgumentsNeeded() {
		flags = append(flags, "--arg or --args")
	}
	if e.GetStepsNeeded() {
		flags = append(flags, "--steps")
	}
	return "Say them with " + strings.Join(flags, " and ") + "; in a test, with arguments and steps."
}

// dependenciesJSON is dependsOn for programs.
func dependenciesJSON(all []*authv1.Dependency) []map[string]any {
	list := []map[string]any{}
	for _, d := range all {
		list = append(list, map[string]any{
			"policy": d.GetPolicy(), "policy_source": d.GetPolicySource(), "approval": d.GetApproval(),
			"arguments": slices.Concat([]string{}, d.GetArguments()), "inputs": slices.Concat([]string{}, d.GetInputs()),
		})
	}
	return list
}
