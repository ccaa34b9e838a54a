package quotastream

import (
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// maxNames is how many names of attributes a message has at most.
const maxNames = 32

// packer gives the checks of a message the names of their attributes in common. It
// keeps those of earlier messages, since most are met again.
type packer struct {
	names []string
	at    map[string]int
}

// pack puts checks into a message.
func (p *packer) pack(req *quotav1.CheckStreamRequest, questions []question) {
	if p.fill(req, questions) {
		return
	}
	p.names, p.at = nil, nil // others may do
	if p.fill(req, questions) {
		return
	}
	req.Checks = make([]*quotav1.CheckRequest, len(questions))
	for i := range questions {
		req.Checks[i] = questions[i].check
	}
}

// fill reports whether the checks have few enough names.
func (p *packer) fill(req *quotav1.CheckStreamRequest, questions []question) bool {
	all := make([]quotav1.PackedCheck, len(questions))
	list := make([]*quotav1.PackedCheck, len(questions))
	values := make([]string, 0, len(questions)*max(len(p.names), 1))
	for i := range questions {
		from, to := questions[i].check, &all[i]
		attributes, begin, known := from.GetSubject().GetAttributes(), len(values), 0
		for _, name := range p.names {
			value, ok := attributes[name]
			if values = append(values, value); ok {
				known++
			}
		}
		if known < len(attributes) {
			more, ok := p.learn(attributes)
			if !ok {
				return false
			}
			for _, name := range more {
				values = append(values, attributes[name])
			}
		}
		to.Values = values[begin:len(values):len(values)]
		to.Cost, to.IdempotencyKey = from.Cost, from.GetIdempotencyKey()
		to.Lease, to.Estimates = from.GetLease(), from.GetEstimates()
		list[i] = to
	}
	req.Packed, req.Names = list, p.names[:len(p.names):len(p.names)]
	return true
}

// learn adds the names of attributes, and returns those that are new. It reports false
// if there are too many.
func (p *packer) learn(attributes map[string]string) (more []string, ok bool) {
	before := len(p.names)
	for name := range attributes {
		if _, ok := p.at[name]; ok {
			continue
		}
		if len(p.names) == maxNames {
			return nil, false
		}
		if p.at == nil {
			p.at = make(map[string]int)
		}
		p.at[name] = len(p.names)
		p.names = append(p.names, name)
	}
	return p.names[before:], true
}
