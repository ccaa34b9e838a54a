package executor_test

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/time/rate"
)

// bad is a tool service that does wrong, and how its calls end.
type bad struct {
	kind string
	want []string // every one of these is seen
	may  []string // and besides them nothing but these
}

// What each kind of bad tool comes to, and which are left alone: those that do not
// answer, or without end. What answers, with whatever, is well as far as its breaker
// is concerned.
var bads = []bad{
	{"killed", []string{lostCall, "resting"}, []string{"busy", "TOOL_UNAVAILABLE retryable=true", noTool}},
	{"hung", []string{"TOOL_TIMEOUT retryable=false", "busy", "resting"}, []string{"TOOL_UNAVAILABLE retryable=true"}},
	{"flooding", []string{"RESULT_INVALID retryable=false", "resting"}, []string{"busy"}},
	{"garbage", []string{"TOOL_ERROR retryable=false", "resting"}, []string{"busy"}},
	{"wrong", []string{"RESULT_INVALID retryable=false"}, []string{"busy"}},
	{"huge", []string{"RESULT_TOO_LARGE retryable=false"}, []string{"busy"}},
}

// Ends of calls: nobody knows what became of it, and the lease of the announcement
// has ended.
const (
	lostCall = "TOOL_UNAVAILABLE retryable=false"
	noTool   = "there is no such tool (REASON_UNKNOWN)"
)

const faultSection = `    default_timeout: 5m
    max_in_flight: 4
    queue_wait: 20ms
    breaker: {min_calls: 6, failure_rate: 0.5, window: 1h, rest: 300ms}
    joining:
`

// One tool service of each bad kind is called by more callers than it may have,
// beside a good one. Each comes to its own end; no call of the good one fails or
// waits for theirs; and what is 1 GiB takes no memory here.
func TestBadToolsHurtNoOther(t *testing.T) {
	section := faultSection
	services := []string{"good"}
	for _, b := range bads {
		section += fmt.Sprintf("      %s: {prefix: %s_}\n", b.kind, b.kind)
		services = append(services, b.kind)
	}
	tr := rehearse(t, section, services...)
	tr.enter("good", "good", "good")
	tr.untilKnown("echo")
	alone := tr.measure(t, 400, nil)

	var known []string
	var garbage *player
	for _, b := range bads {
		if p := tr.enter(b.kind, b.kind, b.kind); b.kind == "garbage" {
			garbage = p
		}
		known = append(known, b.kind+"_echo")
	}
	tr.untilKnown(known...)
	seen := make([]*load, len(bads))
	for i, b := range bads {
		seen[i] = tr.pester(6, b.kind+"_echo")
	}
	beside := tr.measure(t, 400, func() bool {
		for i, b := range bads {
			if !seen[i].sees(b.want) {
				return false
			}
		}
		return true
	})
	for i, b := range bads {
		refusals, answered := seen[i].end()
		for reason := range refusals {
			if !slices.Contains(b.want, reason) && !slices.Contains(b.may, reason) {
				t.Errorf("%s: %d calls ended with %q", b.kind, refusals[reason], reason)
			}
		}
		if answered > 0 {
			t.Errorf("%s: %d calls were answered", b.kind, answered)
		}
	}
	t.Logf("calls of the good tool, on a machine as it is:\n%s", table(alone, beside))
	t.Logf("ends of the calls of the bad ones:\n%s", ends(seen))

	t.Run("a huge result takes no memory", func(t *testing.T) {
		const calls, bound = 4, 32 << 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range calls {
			if got := refusalOf(tr.call(t.Context(), "huge_echo", echoArguments, 0)); got != "RESULT_TOO_LARGE retryable=false" {
				t.Errorf("Call = %s", got)
			}
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > bound {
			t.Errorf("%d results of 1 GiB took %d MiB of memory, at most %d are wanted", calls, got>>20, bound>>20)
		}
	})
	t.Run("a service that is well again is called again", func(t *testing.T) {
		times := tr.log.count("a service is well again")
		tr.enter("garbage", "good", "well")
		garbage.leave()
		l := tr.constantly(1, "garbage_echo", echoArguments)
		l.until(echoes("well"), 10)
		l.end()
		tr.log.until("a service is well again", times+1)
	})
}

// measure calls the good tool from as many callers as it may have, at least n
// times in all and until enough, and returns how long calls took. None may fail.
func (tr *troupe) measure(t *testing.T, n int, enough func() bool) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var all []time.Duration
	more := func(d time.Duration) bool {
		mu.Lock()
		defer mu.Unlock()
		if d > 0 {
			all = append(all, d)
		}
		return len(all) < n || enough != nil && !enough()
	}
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for d := time.Duration(0); more(d); {
				start := time.Now()
				r, err := tr.call(context.Background(), "echo", echoArguments, 0)
				d = max(time.Since(start), 1)
				if got := refusalOf(r, err); got != "" || string(r.GetResult().GetStructured()) != echoes("good") {
					t.Errorf("a call of the good tool: %s %v", got, r)
					return
				}
			}
		})
	}
	callers.Wait()
	slices.Sort(all)
	return all
}

// pester calls a bad tool from many callers, not so often that they need the
// processor that others are measured on.
func (tr *troupe) pester(callers int, tool string) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := newLoad(tr.t, stop)
	timeout := time.Duration(0)
	if tool == "hung_echo" {
		timeout = 300 * time.Millisecond
	}
	pace := rate.NewLimiter(50, callers)
	for range callers {
		l.running.Go(func() {
			for pace.Wait(ctx) == nil {
				r, err := tr.call(context.Background(), tool, echoArguments, timeout)
				l.note(string(r.GetResult().GetStructured()), refusalOf(r, err))
			}
		})
	}
	return l
}

// sees reports whether calls have ended in each of these ways.
func (l *load) sees(reasons []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range reasons {
		if l.refusals[r] == 0 {
			return false
		}
	}
	return true
}

func table(alone, beside []time.Duration) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tcalls\tp50\tp99\tmost\t")
	for _, row := range []struct {
		name string
		all  []time.Duration
	}{{"alone", alone}, {"beside bad ones", beside}} {
		at := func(part float64) time.Duration {
			return row.all[int(part*float64(len(row.all)-1))].Round(10 * time.Microsecond)
		}
		fmt.Fprintf(w, "%s\t%d\t%v\t%v\t%v\t\n", row.name, len(row.all), at(0.5), at(0.99), at(1))
	}
	_ = w.Flush() // to memory
	return b.String()
}

func ends(seen []*load) string {
	var b strings.Builder
	for i, l := range seen {
		fmt.Fprintf(&b, "%s:", bads[i].kind)
		for _, reason := range slices.Sorted(maps.Keys(l.refusals)) {
			fmt.Fprintf(&b, "  %s %d", reason, l.refusals[reason])
		}
		b.WriteByte('\n')
	}
	return b.String()
}
