package policy

import "slices"

// Waiting returns the policies that read what is not known and could turn the
// verdict of [Match.Decide], as written: for an Incomplete one those that it waits
// for.
func (m *Match) Waiting(situation Situation) (waiting []*Rule) {
	missing := situation.missing()
	permitted := slices.ContainsFunc(m.Applied(situation), func(r *Rule) bool { return r.permits })
	for _, r := range m.all {
		if r.needs&missing != 0 && !(r.permits && permitted) {
			waiting = append(waiting, r)
		}
	}
	return waiting
}

// Needs is what the policy reads of what is sent only when a policy reads it.
func (r *Rule) Needs() Needs { return r.needs }

// Arguments returns the arguments that the policy reads, by their paths, sorted:
// "limit", "options.deep"; "*" where it reads all at once. A path has at most 256
// bytes.
func (r *Rule) Arguments() []string {
	paths := slices.Clone(r.arguments)
	for i, path := range paths {
		paths[i] = clip(path, maxInput)
	}
	return paths
}

// Reads returns what the policy reads beside arguments, by the names that it has
// among inputs, sorted.
func (r *Rule) Reads() (names []string) {
	for _, name := range []string{
		"address", "client", "context_source", "hops", "protocol", steps, "time",
		tainted, seenSources, seenTrust, seenSensitivity, seenTenants, suspects,
	} {
		if r.reads&attributeNamed(name) != 0 {
			names = append(names, name)
		}
	}
	for _, name := range []string{"name", "owner", "scopes"} {
		if r.person&personNamed(name) != 0 {
			names = append(names, person+name)
		}
	}
	slices.Sort(names)
	return names
}
