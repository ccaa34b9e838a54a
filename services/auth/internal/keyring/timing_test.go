package keyring_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
)

// BenchmarkTimingOfRefusals reports whether the time of a refusal tells its reason,
// in the manner of dudect (Reparaz et al., 2017): Welch's t over samples of two kinds
// that are taken in random order. |t| above 4.5 means that there is a difference
// which this many samples show, not that it can be seen over a network:
//
//	go test -run '^$' -bench TimingOfRefusals -benchtime 200000x ./services/auth/internal/keyring
func BenchmarkTimingOfRefusals(b *testing.B) {
	for name, peppers := range map[string]*apikey.Peppers{
		"one pepper": newPeppers(b, 7), "an old pepper too": newPeppers(b, 7, 8),
	} {
		ring, texts := refusals(b, peppers)
		for _, kind := range []string{"a wrong secret", "a revoked key", "an expired key"} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				// Ten of a batch are one sample: the clock is coarser than one.
				var sum [2]moments
				for b.Loop() {
					which := rand.IntN(2)
					text := texts[[]string{"an unknown id", kind}[which]]
					now := time.Now()
					start := time.Now()
					for range 10 {
						_, _, _, _ = ring.Verify(text, "192.0.2.7", now)
					}
					if d := time.Since(start); d < 100*time.Microsecond { // else something else ran
						sum[which].add(float64(d.Nanoseconds()) / 10)
					}
				}
				if sum[0].n > 1 && sum[1].n > 1 {
					b.ReportMetric(welch(sum[0], sum[1]), "t")
				}
			})
		}
	}
}

// refusals returns a ring and keys that it refuses, by the reason.
func refusals(t testing.TB, peppers *apikey.Peppers) (*keyring.Ring, map[string]string) {
	ring := keyring.New("dev", peppers, 24*time.Hour)
	ring.Synced(true)
	texts := make(map[string]string)
	for i, kind := range []string{"a wrong secret", "a revoked key", "an expired key"} {
		r, text := record(peppers)
		switch kind {
		case "a wrong secret":
			text = apikey.MintSecret("dev", r.ID).Reveal()
		case "a revoked key":
			r.Revoked = time.Now()
		case "an expired key":
			r.Expires = time.Now()
		}
		ring.Put(r, uint64(i+1))
		texts[kind] = text
	}
	texts["an unknown id"] = apikey.Mint("dev").Reveal()
	for kind, text := range texts {
		if k, _, _, err := ring.Verify(text, "", time.Now()); k != nil || err != nil {
			t.Fatalf("%s: got %v, %v; want nothing", kind, k, err)
		}
	}
	return ring, texts
}

// moments are the number, mean and squared distance of samples (Welford).
type moments struct{ n, mean, m2 float64 }

func (m *moments) add(x float64) {
	m.n++
	d := x - m.mean
	m.mean += d / m.n
	m.m2 += d * (x - m.mean)
}

func welch(a, b moments) float64 {
	return (a.mean - b.mean) / math.Sqrt(a.m2/(a.n-1)/a.n+b.m2/(b.n-1)/b.n)
}

func BenchmarkVerifyRefused(b *testing.B) {
	for name, peppers := range map[string]*apikey.Peppers{
		"one pepper": newPeppers(b, 7), "an old pepper too": newPeppers(b, 7, 8),
	} {
		ring, texts := refusals(b, peppers)
		for kind, text := range texts {
			b.Run(name+"/"+kind, func(b *testing.B) {
				now := time.Now()
				b.ReportAllocs()
				for b.Loop() {
					_, _, _, _ = ring.Verify(text, "192.0.2.7", now)
				}
			})
		}
	}
}
