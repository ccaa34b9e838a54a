package policy

import "github.com/cedar-policy/cedar-go"

// Record is what policies see.
func (a *Arguments) Record() cedar.Record { return a.record }
