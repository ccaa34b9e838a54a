package executor_test

import (
	"context"
	"encoding/json"
	"errors"
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

// Each round measures the good tool in each setting, so that what a busy machine does
// meanwhile falls on all of them alike. Whoever wants figures runs the test several
// times.
const (
	rounds   = 3
	measured = 300 // calls of the good tool, at least, for each round and setting
)

// One tool service of each bad kind is called by more callers than it may have,
// beside a good one. Each comes to its own end, no call of the good one fails, and
// what is 1 GiB is neither read nor kept. How long calls of the good one take is
// shown beside what they take when the others are good too.
func TestBadToolsHurtNoOther(t *testing.T) {
	section := faultSection
	services, fine := []string{"good"}, []string(nil)
	for _, b := range bads {
		section += fmt.Sprintf("      %s: {prefix: %[1]s_}\n      not-%[1]s: {prefix: not_%[1]s_}\n", b.kind)
		services = append(services, b.kind, "not-"+b.kind)
	}
	tr := rehearse(t, section, services...)
	tr.enter("good", "good", "good")
	players := make(map[string]*player)
	known := []string{"echo"}
	for _, b := range bads {
		players[b.kind] = tr.enter(b.kind, b.kind, b.kind)
		tr.enter("not-"+b.kind, "good", "not-"+b.kind)
		fine = append(fine, "not_"+b.kind+"_echo")
		known = append(known, b.kind+"_echo", "not_"+b.kind+"_echo")
	}
	tr.untilKnown(known...)

	seen := make([]map[string]int, len(bads))
	for i := range seen {
		seen[i] = make(map[string]int)
	}
	alone, besideGood, besideBad := &setting{name: "alone"}, &setting{name: "beside good ones"}, &setting{name: "beside bad ones"}
	for round := range rounds {
		tr.measure(t, alone, nil)

		var others []*load
		for _, tool := range fine {
			others = append(others, tr.pester(6, tool))
		}
		tr.measure(t, besideGood, nil)
		for _, l := range others {
			l.end()
		}

		select {
		case <-players["killed"].done:
			players["killed"] = tr.enter("killed", "killed", "killed")
		default:
		}
		others = nil
		for _, b := range bads {
			others = append(others, tr.pester(6, b.kind+"_echo"))
		}
		tr.measure(t, besideBad, func() bool {
			for i, b := range bads {
				if round == rounds-1 && !others[i].sees(seen[i], b.want) {
					return false
				}
			}
			return true
		})
		for i, l := range others {
			refusals, answered := l.end()
			if answered > 0 {
				t.Errorf("%s: %d calls were answered", bads[i].kind, answered)
			}
			for reason, n := range refusals {
				seen[i][reason] += n
			}
		}
	}
	for i, b := range bads {
		for reason, n := range seen[i] {
			if !slices.Contains(b.want, reason) && !slices.Contains(b.may, reason) {
				t.Errorf("%s: %d calls ended with %q", b.kind, n, reason)
			}
		}
	}
	t.Logf("calls of the good tool, on a machine as it is:\n%s", table(alone, besideGood, besideBad))
	t.Logf("ends of the calls of the bad ones:\n%s", ends(seen))

	t.Run("a huge result is neither read nor kept", func(t *testing.T) {
		const calls, mostSent, mostMemory = 20, 96, 32 << 20 // KiB of a call, bytes of all
		sent := func() int {
			r, err := tr.call(t.Context(), "huge_add_numbers", `{"a":1,"b":1}`, 0)
			var answer struct{ Sum int }
			if err := errors.Join(err, json.Unmarshal(r.GetResult().GetStructured(), &answer)); err != nil {
				t.Fatal(err)
			}
			return answer.Sum
		}
		var before, after runtime.MemStats
		from := sent()
		runtime.ReadMemStats(&before)
		for range calls {
			if got := refusalOf(tr.call(t.Context(), "huge_echo", echoArguments, 0)); got != "RESULT_TOO_LARGE retryable=false" {
				t.Errorf("Call = %s", got)
			}
		}
		runtime.ReadMemStats(&after)
		if got := (sent() - from) / calls; got > mostSent {
			t.Errorf("of a result of 1 GiB %d KiB were sent, at most %d are wanted", got, mostSent)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > mostMemory {
			t.Errorf("%d results of 1 GiB took %d MiB of memory, at most %d are wanted", calls, got>>20, mostMemory>>20)
		}
	})
	t.Run("a service that is well again is called again", func(t *testing.T) {
		times := tr.log.count("a service is well again")
		tr.enter("garbage", "good", "well")
		players["garbage"].leave()
		l := tr.constantly(1, "garbage_echo", echoArguments)
		l.until(echoes("well"), 10)
		l.end()
		tr.log.until("a service is well again", times+1)
	})
}

// setting is what goes on while the good tool is called, and how long its calls took.
type setting struct {
	name string
	took []time.Duration
}

// measure calls the good tool 400 times a second, from as many callers as it may
// have, until it was called so often and enough. No call may fail.
func (tr *troupe) measure(t *testing.T, s *setting, enough func() bool) {
	t.Helper()
	var mu sync.Mutex
	end := len(s.took) + measured
	more := func(d time.Duration) bool {
		mu.Lock()
		defer mu.Unlock()
		if d > 0 {
			s.took = append(s.took, d)
		}
		return len(s.took) < end || enough != nil && !enough()
	}
	pace := rate.NewLimiter(400, 4)
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for d := time.Duration(0); more(d); {
				if err := pace.Wait(context.Background()); err != nil {
					t.Error(err)
					return
				}
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
}

// pester calls a tool from many callers, 50 times a second.
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

// sees reports whether calls have ended in each of these ways, now or before.
func (l *load) sees(before map[string]int, reasons []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range reasons {
		if l.refusals[r]+before[r] == 0 {
			return false
		}
	}
	return true
}

func table(settings ...*setting) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tcalls\tp50\tp90\tp99\tmost\t")
	for _, s := range settings {
		all := slices.Sorted(slices.Values(s.took))
		at := func(part float64) time.Duration {
			return all[int(part*float64(len(all)-1))].Round(10 * time.Microsecond)
		}
		fmt.Fprintf(w, "%s\t%d\t%v\t%v\t%v\t%v\t\n", s.name, len(all), at(0.5), at(0.9), at(0.99), at(1))
	}
	_ = w.Flush() // to memory
	return b.String()
}

func ends(seen []map[string]int) string {
	var b strings.Builder
	for i, refusals := range seen {
		fmt.Fprintf(&b, "%s:", bads[i].kind)
		for _, reason := range slices.Sorted(maps.Keys(refusals)) {
			fmt.Fprintf(&b, "  %s %d", reason, refusals[reason])
		}
		b.WriteByte('\n')
	}
	return b.String()
}
