package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// sample is one measurement of one cell.
type sample struct {
	rate          float64 // requests per second
	p50, p99      float64 // µs
	cpu           float64 // µs per call, of all server processes
	allocs, bytes float64 // per call, of all server processes
	processes     []share
}

// share is what one of the processes has of cpu.
type share struct {
	process string
	cpu     float64
}

func newSample(d driven, processes []process, c cost) sample {
	n := float64(len(d.latencies))
	s := sample{
		rate:   n / d.elapsed.Seconds(),
		p50:    micros(quantile(d.latencies, 0.50)),
		p99:    micros(quantile(d.latencies, 0.99)),
		allocs: c.allocs / n,
		bytes:  c.bytes / n,
	}
	for i, p := range processes {
		cpu := micros(c.cpu[i]) / n
		s.cpu += cpu
		s.processes = append(s.processes, share{p.name, cpu})
	}
	return s
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// quantile is the smallest of sorted values that q of them do not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// median takes the median of each figure by itself. All samples are of the same
// processes.
func median(samples []sample) sample {
	of := func(figure func(sample) float64) float64 {
		values := make([]float64, len(samples))
		for i, s := range samples {
			values[i] = figure(s)
		}
		slices.Sort(values)
		mid := len(values) / 2
		if len(values)%2 == 0 {
			return (values[mid-1] + values[mid]) / 2
		}
		return values[mid]
	}
	m := sample{
		rate: of(func(s sample) float64 { return s.rate }),
		p50:  of(func(s sample) float64 { return s.p50 }), p99: of(func(s sample) float64 { return s.p99 }),
		cpu:    of(func(s sample) float64 { return s.cpu }),
		allocs: of(func(s sample) float64 { return s.allocs }), bytes: of(func(s sample) float64 { return s.bytes }),
	}
	for i, p := range samples[0].processes {
		m.processes = append(m.processes, share{p.process, of(func(s sample) float64 { return s.processes[i].cpu })})
	}
	return m
}

func rowKey(server string, clients int) string { return server + "\t" + strconv.Itoa(clients) }

// report prints the table. The ratio is of CPU to that of the first contestant.
func report(w io.Writer, o options, part suite, results map[string][]sample) error {
	fmt.Fprintf(w, "\n%s, %s request; %d cores, %s; medians of %d\n\n", part.title, o.era, runtime.NumCPU(), runtime.Version(), o.rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "server\tclients\treq/s\tp50 µs\tp99 µs\tserver CPU µs/call\t(range)\tallocs/call\tB/call\tCPU ratio\t")
	for _, cell := range part.cells {
		base := results[rowKey(part.all[0].name, cell.clients)]
		for _, c := range part.all {
			samples := results[rowKey(c.name, cell.clients)]
			if len(samples) == 0 {
				continue
			}
			m := median(samples)
			byCPU := func(a, b sample) int { return cmp.Compare(a.cpu, b.cpu) }
			lowest, highest := slices.MinFunc(samples, byCPU), slices.MaxFunc(samples, byCPU)
			ratio := "-"
			if len(base) > 0 {
				ratio = fmt.Sprintf("%.1f", m.cpu/median(base).cpu)
			}
			fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f\t%.0f\t%.1f\t(%.0f-%.0f)\t%.0f\t%.0f\t%s\t\n",
				c.name, cell.clients, m.rate, m.p50, m.p99, m.cpu, lowest.cpu, highest.cpu, m.allocs, m.bytes, ratio)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, cell := range part.cells {
		for _, c := range part.all {
			if samples := results[rowKey(c.name, cell.clients)]; len(samples) > 0 && len(samples[0].processes) > 1 {
				fmt.Fprintf(w, "\n%s, %d clients, CPU µs/call by process: %s\n", c.name, cell.clients, shares(median(samples).processes))
			}
		}
	}
	return nil
}

// shares lists processes, the dearest first.
func shares(all []share) string {
	all = slices.SortedStableFunc(slices.Values(all), func(a, b share) int { return cmp.Compare(b.cpu, a.cpu) })
	var b strings.Builder
	for i, s := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %.0f", s.process, s.cpu)
	}
	return b.String()
}
