// Package freeport finds ports for tests that must know one before anything
// listens on it, and so cannot listen on port 0.
package freeport

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports below those that systems give to outgoing connections and to listeners
// on port 0 (from 32768 on Linux, from 49152 elsewhere): what is free stays so,
// but for another test that draws the same number.
const lowest, highest = 18000, 32000

// Address returns "127.0.0.1:port" with a port that is free now.
func Address(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(highest-lowest)))
		lis, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = lis.Close() // it shall be free
		return address
	}
	t.Fatal("no port is free")
	return ""
}

// Port returns the port alone.
func Port(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(Address(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}
