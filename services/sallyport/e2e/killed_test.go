//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// ending is how a call ends on record, by the names of the audit events.
type ending struct {
	Status string `json:"status"`
	Reason string `json:"reason"`
}

// ended is the outcome of a call.
type ended struct {
	ending

	Bytes string `json:"result_bytes"`
}

// question reports whether the call ended with a question to the client instead
// of a result.
func (e ended) question() bool { return e.ending == ending{Status: "STATUS_OK"} && e.Bytes == "" }

// killed is how a call ends whose client's process is killed while it lasts. In
// the modern era the stream that breaks off cancels it; in the legacy era a lost
// connection says nothing about whether the call is wanted, so it goes on.
func (c client) killed() ending {
	if c.revision == modern {
		return ending{"STATUS_FAILED", "REASON_CANCELLED"}
	}
	return ending{Status: "STATUS_OK"}
}

// event is what is looked at of an audit event.
type event struct {
	DecisionID string `json:"decision_id"`
	Actor      struct {
		Address string `json:"address"`
	} `json:"actor"`
	Intent  *struct{} `json:"intent"`
	Outcome *ended    `json:"outcome"`
}

// record returns the newest events that a filter of `audit tail` lets through.
func (r run) record(ctx context.Context, t *testing.T, filter ...string) ([]event, error) {
	t.Helper()
	args := append([]string{"--state", r.ready.StateDir, "audit", "tail", "-n", "1000", "-o", "json"}, filter...)
	var all []event
	for line := range strings.Lines(output(ctx, t, program, args...)) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// checkKilled makes a call with a client that has no other way to give it up than
// to be killed, and checks how it ends. The example server asks each new client
// for its roots, in whichever call is under way, and a client that was killed
// cannot answer; a call that ended so is made again.
func (r run) checkKilled(t *testing.T, s scenario) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		end := r.awaitEnd(ctx, t, r.killDuring(ctx, t, s))
		if end.question() {
			continue
		}
		if want := r.client.killed(); end.ending != want {
			t.Errorf("the call whose client was killed ended as %+v, want %+v", end.ending, want)
		}
		return
	}
}

// killDuring makes a call, kills its client once it is on record as begun, and
// returns its decision.
func (r run) killDuring(ctx context.Context, t *testing.T, s scenario) (decision string) {
	t.Helper()
	calling, kill := context.WithCancel(ctx)
	defer kill()
	type answer struct {
		outcome outcome
		err     error
	}
	answers := make(chan answer, 1)
	go func() { // ends when its process does, at the latest by the kill
		got, err := r.driver.do(calling, r.instruct(s, 0))
		answers <- answer{got, err}
	}()
	decision = r.awaitBegun(ctx, t, s.tool)
	kill()
	got := <-answers
	if got.err != nil {
		t.Fatal(got.err)
	}
	if got.outcome.Failure == nil || got.outcome.Failure.Kind != wasKilled {
		t.Fatalf("got %s, want a client that was killed before it had an answer", describe(got.outcome))
	}
	return decision
}

// awaitBegun waits until a call of this client, which is known by its address, has
// begun and not ended, and returns its decision.
func (r run) awaitBegun(ctx context.Context, t *testing.T, tool string) (decision string) {
	t.Helper()
	until(ctx, t, "the call", func() error {
		all, err := r.record(ctx, t, "--tool", tool)
		decision = ""
		for _, e := range all {
			switch {
			case e.Actor.Address != r.address():
			case e.Intent != nil:
				decision = e.DecisionID
			case e.Outcome != nil && e.DecisionID == decision:
				decision = ""
			}
		}
		if err == nil && decision == "" {
			err = fmt.Errorf("no call of %s from %s is on its way", tool, r.address())
		}
		return err
	})
	return decision
}

// awaitEnd waits for the outcome of a call.
func (r run) awaitEnd(ctx context.Context, t *testing.T, decision string) (end ended) {
	t.Helper()
	until(ctx, t, "the end of the call", func() error {
		all, err := r.record(ctx, t, "--decision", decision)
		for _, e := range all {
			if e.Outcome != nil {
				end = *e.Outcome
				return nil
			}
		}
		if err == nil {
			err = fmt.Errorf("no outcome of %s is on record", decision)
		}
		return err
	})
	return end
}
