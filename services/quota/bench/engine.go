package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// engine measures decisions without gRPC, on one core.
func engine(ctx context.Context, o options, stdout, _ io.Writer) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cfg := quota.DefaultConfig()
	cfg.Rules = []quota.Rule{{ID: "per-ip", Key: []string{"ip"}, Limit: quota.Strings{"1000000000/minute"}}}
	svc, err := quota.New(cfg, nil, nil)
	if err != nil {
		return err
	}
	reqs := checks(nil, false)
	fmt.Fprintln(stdout, "\none core, no gRPC")
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "what\tdecisions/s\tof new keys\t")
	log := limiter.Spec{Max: 10, Window: time.Minute}
	ring := limiter.Spec{Max: 1_000_000, Window: time.Minute}
	gcra := limiter.Spec{Algorithm: limiter.GCRA, Max: 1_000_000, Window: time.Second}
	for _, c := range []struct {
		name  string
		spec  limiter.Spec
		keys  int
		first uint32 // is spent of each key
	}{
		{"10/minute, refused, 10 thousand keys", log, 10_000, 10},
		{"10/minute, refused, 1 million keys", log, 1_000_000, 10},
		{"10/minute, 1 million keys", log, 1_000_000, 1},
		{"1000000/minute, 10 thousand keys", ring, 10_000, 1},
		{"1000000/minute, 1 million keys", ring, 1_000_000, 1},
		{"gcra 1000000/second, 10 thousand keys", gcra, 10_000, 1},
		{"gcra 1000000/second, 1 million keys", gcra, 1_000_000, 1},
	} {
		l := limiter.New([]limiter.Spec{c.spec}, 2*c.keys+limiter.MinKeys)
		begin := time.Now()
		take := func(key int, cost uint32) error {
			asks := [1]limiter.Ask{{Key: keyOf(key), Cost: cost}}
			_, err := l.Take(time.Since(begin), asks[:])
			return err
		}
		for key := range c.keys { // so that what follows meets none for the first time
			if err := take(key, c.first); err != nil {
				return err
			}
		}
		first := float64(c.keys) / time.Since(begin).Seconds()
		rng := rand.New(rand.NewPCG(1, 2))
		rate, err := count(o.span, func(int) error { return take(rng.IntN(c.keys), 1) })
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t\n", c.name, rate, first)
	}
	rate, err := count(o.span, func(i int) error {
		_, err := svc.Check(ctx, reqs[i%len(reqs)])
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(t, "a whole Check, from message to message\t%.0f\t\t\n", rate)
	return t.Flush()
}

// keyOf is a key that looks like a hash, and takes no memory that would have to be
// fetched: splitmix64.
func keyOf(i int) limiter.Key {
	mixed := func(x uint64) uint64 {
		x *= 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return x ^ x>>31
	}
	return limiter.Key{Hi: mixed(uint64(2*i + 1)), Lo: mixed(uint64(2*i + 2))}
}

// count does something for a while, and returns how often in a second.
func count(span time.Duration, do func(i int) error) (float64, error) {
	const between = 1000 // looks at the clock
	n, begin := 0, time.Now()
	for time.Since(begin) < span {
		for range between {
			if err := do(n); err != nil {
				return 0, err
			}
			n++
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// memory weighs counters of "10/minute", and measures the collector's work with
// them.
func memory(_ context.Context, o options, stdout, stderr io.Writer) error {
	fmt.Fprintln(stdout, "\ncounters of 10/minute")
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "keys\tspends each\theap bytes/key\twhole collection\tlongest pause\tslowest insertion\t")
	for text := range strings.SplitSeq(o.keys, ",") {
		millions, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || millions < 1 || millions > 100 {
			return fmt.Errorf("-keys: %q is not a number from 1 to 100", text)
		}
		fmt.Fprintf(stderr, "%d million keys …\n", millions)
		for _, spends := range []uint32{1, 10} {
			w, err := weigh(millions*1_000_000, spends)
			if err != nil {
				return err
			}
			fmt.Fprintf(t, "%d million\t%d\t%.0f\t%v\t%v\t%v\t\n", millions, spends, w.perKey, w.collection.Round(100*time.Microsecond),
				w.pause.Round(time.Microsecond), w.slowest.Round(time.Microsecond))
		}
	}
	return t.Flush()
}

// weight is what counters cost.
type weight struct {
	perKey                     float64
	collection, pause, slowest time.Duration
}

func weigh(keys int, spends uint32) (w weight, err error) {
	before := heap()
	l := limiter.New([]limiter.Spec{{Max: 10, Window: time.Minute}}, keys+keys/10)
	rng := rand.New(rand.NewPCG(1, 2))
	asks := make([]limiter.Ask, 1)
	for range keys {
		asks[0] = limiter.Ask{Key: limiter.Key{Hi: rng.Uint64(), Lo: rng.Uint64()}, Cost: spends}
		begin := time.Now()
		if _, err := l.Take(0, asks); err != nil {
			return w, err
		}
		w.slowest = max(w.slowest, time.Since(begin))
	}
	w.perKey = float64(heap()-before) / float64(keys)
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	collections := gc.NumGC
	for range 5 {
		begin := time.Now()
		runtime.GC()
		w.collection = max(w.collection, time.Since(begin))
	}
	debug.ReadGCStats(&gc)
	for _, p := range gc.Pause[:gc.NumGC-collections] {
		w.pause = max(w.pause, p)
	}
	runtime.KeepAlive(l)
	return w, nil
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
