package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// cost is what a server's processes have used up since they started.
type cost struct {
	cpu           []time.Duration // of each process
	allocs, bytes float64         // of all
}

func (c cost) minus(d cost) cost {
	out := cost{allocs: c.allocs - d.allocs, bytes: c.bytes - d.bytes}
	for i := range c.cpu {
		out.cpu = append(out.cpu, c.cpu[i]-d.cpu[i])
	}
	return out
}

// spent reads what the processes of the server have used.
func (s *server) spent(ctx context.Context) (cost, error) {
	var sum cost
	for _, p := range s.processes {
		cpu, err := processCPU(p.pid)
		if err != nil {
			return cost{}, err
		}
		sum.cpu = append(sum.cpu, cpu)
	}
	for _, p := range s.processes {
		allocs, bytes, err := allocations(ctx, p.admin+"/metrics")
		if err != nil {
			return cost{}, fmt.Errorf("metrics of %s: %w", p.name, err)
		}
		sum.allocs += allocs
		sum.bytes += bytes
	}
	return sum, nil
}

// tick is the unit of /proc: USER_HZ is 100 wherever Go runs on Linux.
const tick = 10 * time.Millisecond

func processCPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(b)
}

// parseStat returns the CPU time, user and system, in the content of
// /proc/<pid>/stat. The second field is a name in parentheses that may hold
// anything, spaces and parentheses too.
func parseStat(b []byte) (time.Duration, error) {
	const user, system = 11, 12 // among the fields after the name
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) <= system {
		return 0, fmt.Errorf("/proc/<pid>/stat: %q has too few fields", b)
	}
	var sum time.Duration
	for _, f := range []string{fields[user], fields[system]} {
		n, err := strconv.ParseUint(f, 10, 62)
		if err != nil {
			return 0, fmt.Errorf("/proc/<pid>/stat: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// allocations reads the Go runtime's totals from a page in Prometheus' format.
func allocations(ctx context.Context, url string) (allocs, bytes float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }() // read or not, it is over
	if resp.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("got %s", resp.Status)
	}
	return parseMetrics(resp.Body)
}

const (
	mallocsMetric = "go_memstats_mallocs_total"
	bytesMetric   = "go_memstats_alloc_bytes_total"
)

func parseMetrics(r io.Reader) (allocs, bytes float64, err error) {
	found := 0
	lines := bufio.NewScanner(io.LimitReader(r, 16<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || name != mallocsMetric && name != bytesMetric {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", name, err)
		}
		found++
		if name == mallocsMetric {
			allocs = n
		} else {
			bytes = n
		}
	}
	if err := lines.Err(); err != nil {
		return 0, 0, err
	}
	if found != 2 {
		return 0, 0, fmt.Errorf("got %d of %s and %s, want each once", found, mallocsMetric, bytesMetric)
	}
	return allocs, bytes, nil
}
