package edge

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// maxTaskTools is how many tools a client may name; the contract has the same bound.
const maxTaskTools = 64

const badTaskTools = "_meta[dev.sallyport/task_tools] has to be an array of 1 to 64 names of tools. Leave it out if the task may use all"

// findTask notes which tools the client says that its task needs. A grant for any
// other is refused. An empty list is refused too: it would read as no tools, and mean
// all.
func (x *exchange) findTask() *refusal {
	m := &x.msg
	if !m.MetaTaskTools.Present() {
		return nil
	}
	if m.MetaTaskTools.Kind != jsonrpc.Array {
		return refuse(kindParams, badTaskTools)
	}
	ok := true
	eachElement(m.Raw(m.MetaTaskTools), func(value jsontext.Value) {
		name := ""
		if value.Kind() == jsontext.KindString {
			if plain, err := jsontext.AppendUnquote(nil, value); err == nil {
				name = string(plain)
			}
		}
		if ok = ok && toolName(name) && len(x.task) < maxTaskTools; ok {
			x.task = append(x.task, name)
		}
	})
	if !ok || len(x.task) == 0 {
		return refuse(kindParams, badTaskTools)
	}
	return nil
}
