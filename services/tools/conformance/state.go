package conformance

import (
	"bytes"
	"encoding/json"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// state is what a tool gives out with its questions, to have it back with the
// answers. It is not protected: the edge seals it on its way out. It tells of the
// replica and the tool, so that a state which has come to another one is noticed.
type state struct {
	Instance string `json:"instance"`
	Tool     string `json:"tool"`
	Step     int    `json:"step"`
	Name     string `json:"name,omitempty"`
}

// give returns a state of this call.
func (c *call) give(step int, name string) *state {
	return &state{Instance: c.provider.instance, Tool: c.req.GetName(), Step: step, Name: name}
}

// taken returns the state that has come back, with step 0 if there is none. It
// fails closed: any but a state that this replica gave out for this tool, byte
// for byte, is refused.
func (c *call) taken(steps int) (state, error) {
	b := c.req.GetRound().GetState()
	if len(b) == 0 {
		return state{}, nil
	}
	bad := fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "the state is not one that this tool has given out")
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, bad.Because(err)
	}
	again, err := json.Marshal(s)
	if err != nil || !bytes.Equal(again, b) || s != *c.give(s.Step, s.Name) || s.Step < 1 || s.Step > steps {
		return state{}, bad.Because(err)
	}
	return s, nil
}
