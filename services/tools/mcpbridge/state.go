package mcpbridge

import (
	"bytes"
	"encoding/json"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// The kinds of state that is given out with questions.
const (
	parkedCall = "parked" // the call is still there, see calls
	modernCall = "modern" // the upstream has its own state
	openPages  = "pages"  // to be called again when the user has been to some pages
)

// state is what comes back with the answers. The edge seals it on its way out;
// all the same it says whose it is, and what the next round may be.
type state struct {
	Kind   string `json:"kind"`
	Who    string `json:"who"`
	Name   string `json:"name"`
	ID     string `json:"id,omitempty"`     // of a parked call
	Theirs string `json:"theirs,omitempty"` // of a modern upstream
	Asked  int    `json:"asked,omitempty"`  // pages
}

var errState = fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS,
	"The question that this answers is no longer open. Call again without an answer.")

func (s state) bytes() ([]byte, error) { return json.Marshal(s) }

// readState reads the state of a round; the zero state where there is none. It
// fails closed: what is not a state for this principal and name is none at all.
func readState(b []byte, who, name string) (state, error) {
	if len(b) == 0 {
		return state{}, nil
	}
	var s state
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if dec.Decode(&s) != nil || s.Who != who || s.Name != name {
		return state{}, errState
	}
	switch s.Kind {
	case parkedCall, modernCall, openPages:
		return s, nil
	}
	return state{}, errState
}

// addTo adds to the parameters of a call what a modern upstream gets back.
func (s state) addTo(params map[string]json.RawMessage, round *providerv1.Round) error {
	if m := answers(round.GetInputResponses()); m != nil {
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		params["inputResponses"] = b
	}
	if s.Theirs != "" {
		b, err := json.Marshal(s.Theirs)
		if err != nil {
			return err
		}
		params["requestState"] = b
	}
	return nil
}
