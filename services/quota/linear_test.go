//go:build cluster

package quota_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// spentAnswer is what a check of one key saw: how much of the limit is used after it, and
// whether it was admitted.
type spentAnswer struct {
	allowed bool
	used    uint64
}

// oneCounter is the model of one key whose window does not end: an admission adds one
// and tells the sum, and the limit is never passed. Where lost is set, some callers
// got no answer, and charges of theirs may be there too.
func oneCounter(limit uint64, lost bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return uint64(0) },
		Step: func(state, _, output any) (bool, any) {
			used, a := state.(uint64), output.(spentAnswer)
			switch {
			case !a.allowed && lost:
				return a.used == limit, limit
			case !a.allowed:
				return a.used == limit && used == limit, limit
			case lost:
				return a.used > used && a.used <= limit, a.used
			}
			return a.used == used+1 && a.used <= limit, a.used
		},
	}
}

// history is all calls about one key.
type history struct {
	mu         sync.Mutex
	operations []porcupine.Operation
	lost       bool
}

// call makes a check and notes it.
func (h *history) call(t *testing.T, n *node, caller, key int, began time.Time) (refused bool) {
	sent := time.Since(began)
	res, err := n.Check(context.Background(), address(key))
	received := time.Since(began)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		if !fault.Is(err, quotav1.Reason_REASON_PEERS_LOST) && !unavailable(err) {
			t.Error(err)
		}
		h.lost = true
		return false
	}
	l := res.GetLimits()[0]
	h.operations = append(h.operations, porcupine.Operation{
		ClientId: caller, Call: int64(sent), Return: int64(received),
		Output: spentAnswer{res.GetAllowed(), l.GetLimit() - l.GetRemaining()},
	})
	return !res.GetAllowed()
}

// Whatever nodes die, all callers see one counter for each key, as if it stood in
// one place.
func TestEachKeyIsOneCounterWhileNodesDie(t *testing.T) {
	const limit, keys, callers = 100, 30, 12
	all := nodes(t, `
cluster: {enabled: true, lease: 5s, patience: 1s, sync: true}
rules: [{id: per-ip, key: [ip], limit: 100/hour}]
`, 3, natsServer(t).URL())
	awaitCopies(t, all...)
	histories := make([]history, keys)
	began := time.Now()
	var calls atomic.Int64
	var alive atomic.Int32
	alive.Store(3)
	stop := make(chan struct{})
	var g sync.WaitGroup
	defer g.Wait()
	for c := range callers {
		rng := rand.New(rand.NewPCG(1, uint64(c)))
		g.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-t.Context().Done():
					return
				default:
				}
				key := rng.IntN(keys)
				histories[key].call(t, all[c%int(alive.Load())], c, key, began)
				calls.Add(1)
			}
		})
	}
	before := views(t, all[0])
	for dead := 2; dead >= 1; dead-- {
		target := calls.Load() + 300
		await(t, "calls", func() bool { return calls.Load() > target })
		all[dead].kill(t)
		alive.Store(int32(dead))
		(&tally{counts: make([]atomic.Int32, keys)}).settled(t, all[:dead]...)
		awaitCopies(t, all[:dead]...)
	}
	after := views(t, all[0])
	close(stop)
	g.Wait()
	for key := range histories {
		await(t, "the end of a limit", func() bool { return histories[key].call(t, all[0], callers, key, began) })
		h := &histories[key]
		admitted := 0
		for _, o := range h.operations {
			if o.Output.(spentAnswer).allowed {
				admitted++
			}
		}
		switch result := porcupine.CheckOperationsTimeout(oneCounter(limit, h.lost), h.operations, time.Minute); {
		case result == porcupine.Illegal || admitted > limit:
			exceeded(t, after, before+2, "key %d: %d calls, %d admitted of %d, are no history of one counter", key, len(h.operations), admitted, limit)
		case result == porcupine.Unknown:
			t.Logf("key %d: the history of %d calls was not judged in a minute", key, len(h.operations))
		}
	}
	t.Logf("%d calls; two nodes died", calls.Load())
}

// The model itself has to tell good histories from bad ones.
func TestTheModelOfACounterIsStrict(t *testing.T) {
	op := func(call, ret int64, allowed bool, used uint64) porcupine.Operation {
		return porcupine.Operation{Call: call, Return: ret, Output: spentAnswer{allowed, used}}
	}
	for name, tt := range map[string]struct {
		lost, good bool
		history    []porcupine.Operation
	}{
		"in turn":                        {good: true, history: []porcupine.Operation{op(1, 2, true, 1), op(3, 4, true, 2), op(5, 6, false, 2)}},
		"at once, in any order":          {good: true, history: []porcupine.Operation{op(1, 9, true, 2), op(2, 8, true, 1)}},
		"one count told twice":           {history: []porcupine.Operation{op(1, 9, true, 1), op(2, 8, true, 1)}},
		"back in time":                   {lost: true, history: []porcupine.Operation{op(1, 2, true, 2), op(3, 4, true, 1)}},
		"admitted after a refusal":       {lost: true, history: []porcupine.Operation{op(1, 2, true, 1), op(3, 4, false, 2), op(5, 6, true, 2)}},
		"a gap without a reason":         {history: []porcupine.Operation{op(1, 2, true, 2)}},
		"a gap of a call without answer": {lost: true, good: true, history: []porcupine.Operation{op(1, 2, true, 2)}},
	} {
		if got := porcupine.CheckOperations(oneCounter(2, tt.lost), tt.history); got != tt.good {
			t.Errorf("%s: got %v, want %v", name, got, tt.good)
		}
	}
}
