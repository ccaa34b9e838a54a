package edge_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/seal"
)

// ask calls a tool that asks, and returns the state that it gives out.
func ask(t *testing.T, w *world, tool string) string {
	t.Helper()
	var r struct {
		Result struct {
			ResultType   string `json:"resultType"`
			RequestState string `json:"requestState"`
		}
	}
	a := w.send(t, request{params: `"name":"` + tool + `"`, capabilities: `{"elicitation":{}}`})
	if err := json.Unmarshal(a.body, &r); err != nil || r.Result.ResultType != "input_required" || r.Result.RequestState == "" {
		t.Fatalf("got %d %s, want to be asked", a.status, a.body)
	}
	return r.Result.RequestState
}

func answered(tool, state string) request {
	return request{params: `"name":"` + tool + `","inputResponses":{"user_name":{"action":"cancel"}},"requestState":"` + state + `"`, capabilities: `{"elicitation":{}}`}
}

const staleState = "requestState is not valid for this request, or no longer."

// A change is made once even when two edges get the answers at once: they have
// one memory. Without it nothing is done.
func TestAStateIsUsedOnceAmongAllEdges(t *testing.T) {
	t.Parallel()
	keys := seal.Random()
	one := newWorld(t, func(o *edge.Options) { o.Keys = keys })
	two := newWorld(t, func(o *edge.Options) { o.Keys, o.Rounds = keys, one.rounds })
	state := ask(t, one, "asks_name")
	if a := two.send(t, answered("asks_name", state)); a.status != http.StatusOK || !strings.Contains(string(a.body), "answers {") {
		t.Fatalf("at the other edge: got %d %s, want it served", a.status, a.body)
	}
	a := one.send(t, answered("asks_name", state))
	if got := a.decode(t).Error; got.Code != -32602 || got.Message != staleState {
		t.Errorf("a second time: got %d %s", a.status, a.body)
	}
	checkRecord(t, one, a, auditv1.Reason_REASON_INVALID_PARAMS)
	if n := len(one.executor.called); n != 1 {
		t.Errorf("the executor was called %d times by the first edge, want 1", n)
	}
}

func TestNothingIsDoneWhenNobodyKnowsWhetherAStateWasUsed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*edge.Options)
	}{
		{"the memory is away", func(*edge.Options) {}},
		{"there is no memory", func(o *edge.Options) { o.Rounds = nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.change)
			state := ask(t, w, "asks_name")
			w.rounds.mu.Lock()
			w.rounds.down = true
			w.rounds.mu.Unlock()
			a := w.send(t, answered("asks_name", state))
			if a.status != http.StatusServiceUnavailable || strings.Contains(string(a.body), "10.0.0") {
				t.Errorf("got %d %s, want 503", a.status, a.body)
			}
			if n := len(w.executor.called); n != 1 {
				t.Errorf("the executor was called %d times, want only for the question", n)
			}
		})
	}
}

func TestAnEdgeWithOtherKeysDoesNotOpenAState(t *testing.T) {
	t.Parallel()
	state := ask(t, newWorld(t), "asks_name")
	other := newWorld(t, func(o *edge.Options) { o.Keys = testKeys(t, 8) })
	if a := other.send(t, answered("asks_name", state)); a.decode(t).Error.Message != staleState {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if n := len(other.executor.called); n != 0 {
		t.Errorf("the executor was called %d times", n)
	}
}

// The memory on the real bus.
func TestBusRounds(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	one, two := edge.BusRounds(b), edge.BusRounds(b)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var first atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			yes, err := []edge.Rounds{one, two}[i%2].Use(ctx, "0af7651916cd43dd8448eb211c80319c")
			if err != nil {
				t.Errorf("Use: %v", err)
			}
			if yes {
				first.Add(1)
			}
		})
	}
	all.Wait()
	if n := first.Load(); n != 1 {
		t.Errorf("an id was used for the first time %d times, want once", n)
	}
	if yes, err := one.Use(ctx, "another"); !yes || err != nil {
		t.Errorf("another id: got %v, %v, want the first time", yes, err)
	}
	b.Close()
	if yes, err := one.Use(ctx, "third"); yes || err == nil {
		t.Errorf("without a bus: got %v, %v, want an error", yes, err)
	}
}

// Questions that are no questions never reach a client.
func TestWrongQuestionsAreNotPassedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const all = `{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}`
	for _, tool := range []string{
		"asks_wrong_method", "asks_wrong_mode", "asks_without_params", "asks_twice", "asks_too_often", "asks_no_json", "asks_too_much", "asks_user",
	} {
		a := w.send(t, request{params: `"name":"` + tool + `"`, capabilities: all})
		if r := a.decode(t); a.reason(t) != "RESULT_INVALID" || !r.Result.IsError || strings.Contains(string(a.body), "input_required") {
			t.Errorf("%s: got %d %s", tool, a.status, a.body)
		}
	}
}

func TestWhatAClientSaysOfItselfIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var members []string
	for range 70 { // of 1000 bytes each
		members = append(members, `"`+strings.Repeat("x", 10+len(members))+`":"`+strings.Repeat("y", 1000)+`"`)
	}
	a := w.send(t, request{capabilities: "{" + strings.Join(members, ",") + "}"})
	if a.status != http.StatusBadRequest || a.decode(t).Error.Code != -32602 {
		t.Errorf("got %d %s, want it refused", a.status, a.body)
	}
}
