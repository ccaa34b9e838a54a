//go:build conformance

package conformance_test

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// table is what is printed at the end: scenarios by columns.
type table struct {
	columns  []string
	cells    map[string]map[string]string // by scenario, by column
	demanded map[string]bool              // scenarios that must pass in some column
	totals   []string
}

func newTable() *table {
	return &table{cells: make(map[string]map[string]string), demanded: make(map[string]bool)}
}

func (b *table) add(column string, demanded []string, outcomes map[string]outcome) {
	b.columns = append(b.columns, column)
	for _, name := range demanded {
		b.demanded[name] = true
		b.set(name, column, "not run")
	}
	for name, o := range outcomes {
		cell := fmt.Sprintf("%d passed, %d failed", o.passed, o.failed)
		if o.warned > 0 {
			cell += fmt.Sprintf(", %d warned", o.warned)
		}
		if !o.ended {
			cell = "broke off"
		}
		b.set(name, column, cell)
	}
}

func (b *table) set(scenario, column, cell string) {
	if b.cells[scenario] == nil {
		b.cells[scenario] = make(map[string]string)
	}
	b.cells[scenario][column] = cell
}

// total says how many of the scenarios that the suite requires have passed.
func (b *table) total(column string, passed, required int) {
	b.totals = append(b.totals, fmt.Sprintf("%s: %d/%d required scenarios passed", column, passed, required))
}

// print writes the table, those that must pass first.
func (b *table) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	section := func(title string, demanded bool) {
		fmt.Fprintf(w, "%s\t%s\n", title, strings.Join(b.columns, "\t"))
		for _, name := range slices.Sorted(maps.Keys(b.cells)) {
			if b.demanded[name] != demanded {
				continue
			}
			fmt.Fprint(w, name)
			for _, column := range b.columns {
				fmt.Fprint(w, "\t", b.cells[name][column])
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, strings.Repeat("\t", len(b.columns)))
	}
	section("MUST PASS", true)
	section("NOT REQUIRED", false)
	_ = w.Flush() // what is printed is for people
	fmt.Fprintln(out, strings.Join(b.totals, "\n"))
}
