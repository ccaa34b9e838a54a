package executor_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// load is callers that call one tool of a service again and again.
type load struct {
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	answers  map[string]int // by text
	refusals map[string]int // by reason
	more     sync.Cond
}

func newLoad(t *testing.T, stop context.CancelFunc) *load {
	l := &load{stop: stop, answers: make(map[string]int), refusals: make(map[string]int)}
	l.more.L = &l.mu
	t.Cleanup(func() { stop(); l.running.Wait() })
	return l
}

// constantly starts callers of a tool.
func (tr *troupe) constantly(callers int, tool, arguments string) *load {
	tr.t.Helper()
	tr.untilKnown(tool)
	ctx, stop := context.WithCancel(context.Background())
	l := newLoad(tr.t, stop)
	for range callers {
		l.running.Go(func() {
			for ctx.Err() == nil {
				r, err := tr.call(context.Background(), tool, arguments, 0)
				l.note(string(r.GetResult().GetStructured()), refusalOf(r, err))
			}
		})
	}
	return l
}

func (l *load) note(answer, refusal string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.more.Broadcast()
	if refusal != "" {
		l.refusals[refusal]++
		return
	}
	l.answers[answer]++
}

// until waits until so many more calls were answered in this way, or at all.
func (l *load) until(answer string, more int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := func() (n int) {
		for text, times := range l.answers {
			if answer == "" || text == answer {
				n += times
			}
		}
		return n
	}
	for from := count(); count() < from+more; {
		l.more.Wait()
	}
}

// end stops the callers and returns what was refused, and how many were answered.
func (l *load) end() (refusals map[string]int, answered int) {
	l.stop()
	l.running.Wait()
	for _, n := range l.answers {
		answered += n
	}
	return l.refusals, answered
}

func echoes(label string) string { return fmt.Sprintf(`{"text":%q}`, label) }

const (
	echoArguments = `{"text":"x"}`
	sumArguments  = `{"a":1,"b":2}`
	sum           = `{"sum":3}`
)

// A service is rolled over from one version to the next, to a version with another
// definition, and with one replica alone, while it is called all the time; no call
// fails, though echo is a tool that is never called twice.
func TestRollingAServiceLosesNoCall(t *testing.T) {
	tr := rehearse(t, "    default_timeout: 5m\n", "basics")
	first, second := tr.enter("basics", "good", "v1-1"), tr.enter("basics", "good", "v1-2")
	writes, sums := tr.constantly(3, "echo", echoArguments), tr.constantly(1, "add_numbers", sumArguments)
	writes.until(echoes("v1-1"), 10)
	writes.until(echoes("v1-2"), 10)

	// The same definition, one replica after the other.
	third := tr.enter("basics", "good", "v2-1")
	first.leave()
	fourth := tr.enter("basics", "good", "v2-2")
	second.leave()
	writes.until(echoes("v2-1"), 10)
	writes.until(echoes("v2-2"), 10)

	// Another definition. Its replicas wait until the last of the others is gone.
	fifth := tr.enter("basics", "other", "v3-1")
	third.leave()
	sixth := tr.enter("basics", "other", "v3-2")
	writes.until(echoes("v2-2"), 10)
	fourth.leave()
	writes.until(echoes("v3-1"), 10)
	writes.until(echoes("v3-2"), 10)

	// And back, with one replica: start, then stop.
	fifth.leave()
	seventh := tr.enter("basics", "good", "v4")
	sixth.leave()
	writes.until(echoes("v4"), 10)
	sums.until(sum, 10)

	for name, l := range map[string]*load{"echo": writes, "add_numbers": sums} {
		refusals, answered := l.end()
		if len(refusals) > 0 {
			t.Errorf("%s: of %d calls were refused: %v", name, answered, refusals)
		}
		t.Logf("%s: %d calls, none failed", name, answered)
	}
	seventh.leave()
}

// A replica that is killed takes with it the calls that it was working on, and of
// these only those that must not be made twice.
func TestKillingAReplicaLosesOnlyWhatItWasDoing(t *testing.T) {
	tr := rehearse(t, "    default_timeout: 5m\n", "basics")
	first := tr.enter("basics", "good", "1")
	tr.enter("basics", "good", "2")
	const callers = 3
	writes, sums := tr.constantly(callers, "echo", echoArguments), tr.constantly(callers, "add_numbers", sumArguments)
	writes.until(echoes("1"), 10)
	writes.until(echoes("2"), 10)
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.done
	writes.until(echoes("2"), 50)
	sums.until(sum, 50)
	refusals, answered := sums.end()
	if len(refusals) > 0 {
		t.Errorf("idempotent calls were refused: %v", refusals)
	}
	t.Logf("add_numbers: %d calls, none failed", answered)
	refusals, answered = writes.end()
	lost := refusals[lostCall]
	delete(refusals, lostCall)
	if len(refusals) > 0 || lost > callers {
		t.Errorf("%d of %d callers do not know what became of a call; other refusals: %v", lost, callers, refusals)
	}
	t.Logf("echo: %d calls, and %d of %d callers do not know what became of one", answered, lost, callers)
}
