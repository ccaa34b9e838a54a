// Package alloctest counts allocations for tests that set a bound to them.
package alloctest

import "testing"

// Least returns how many allocations a call of f makes: the least of several
// averages. One average alone differs from run to run by a few, for goroutines of
// other parts allocate meanwhile, and under the race detector a [sync.Pool] forgets
// at random.
func Least(f func()) float64 {
	least := testing.AllocsPerRun(100, f)
	for range 9 {
		least = min(least, testing.AllocsPerRun(100, f))
	}
	return least
}
