package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
)

// blockSize is how much text of a file is looked at in one piece, beside each line
// by itself: whole lines, in bytes.
const blockSize = 16 << 10

// plain is what was found in a text file that holds nothing to be found.
type plain struct {
	lines, blocks count
	by            map[kind]*[2]int // lines and blocks
}

// count is how many texts there are, in how many something was changed or would have
// been blocked, and in how many a guard that only observes has found something.
type count struct{ all, changed, observed int }

func (c *count) add(o count) {
	c.all, c.changed, c.observed = c.all+o.all, c.changed+o.changed, c.observed+o.observed
}

// kind is something that guards find.
type kind struct{ guard, rule, mode string }

// reportPlain measures text files and prints two tables: by file, and by what was
// found in all of them.
func reportPlain(w io.Writer, chain *guard.Chain, names []string) error {
	total := plain{by: make(map[kind]*[2]int)}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "file\tlines\tchanged\tobserved\t16 KiB\tchanged\tobserved")
	row := func(name string, p *plain) {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", name, p.lines.all, p.lines.changed, p.lines.observed, p.blocks.all, p.blocks.changed, p.blocks.observed)
	}
	for _, name := range names {
		one := plain{by: total.by}
		if err := one.read(chain, name); err != nil {
			return err
		}
		row(filepath.Base(name), &one)
		total.lines.add(one.lines)
		total.blocks.add(one.blocks)
	}
	row("all", &total)
	fmt.Fprintln(t, "\nguard\trule\tmode\tlines\t16 KiB")
	kinds := slices.SortedFunc(maps.Keys(total.by), func(a, b kind) int {
		return cmp.Or(strings.Compare(a.guard, b.guard), strings.Compare(a.rule, b.rule))
	})
	for _, k := range kinds {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\n", k.guard, k.rule, k.mode, total.by[k][0], total.by[k][1])
	}
	return t.Flush()
}

// read looks at each line of a file, and at its lines in blocks.
func (p *plain) read(chain *guard.Chain, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLine)
	var block strings.Builder
	flush := func() {
		if block.Len() > 0 {
			p.look(chain, block.String(), &p.blocks, 1)
			block.Reset()
		}
	}
	for lines.Scan() {
		line := strings.ToValidUTF8(lines.Text(), "\uFFFD") // as providers have to
		p.look(chain, line, &p.lines, 0)
		if block.Len()+len(line) >= blockSize {
			flush()
		}
		block.WriteString(line)
		block.WriteByte('\n')
	}
	flush()
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: line %d: %w", name, p.lines.all+1, err)
	}
	if p.lines.all == 0 {
		return fmt.Errorf("%s: there is no text in it", name)
	}
	return nil
}

// look looks at one text as at a result. at is where its kind of text stands in by.
func (p *plain) look(chain *guard.Chain, text string, sum *count, at int) {
	check := chain.For(context.Background(), guard.Call{Tool: "measured"})
	left, blocked := check.Text(text, "")
	observed := false
	seen := make(map[kind]bool)
	for _, f := range check.Findings() {
		k := kind{f.GetGuard(), f.GetRule(), strings.ToLower(strings.TrimPrefix(f.GetMode().String(), "GUARD_MODE_"))}
		observed = observed || k.mode == string(guard.Observe)
		if seen[k] {
			continue
		}
		seen[k] = true
		if p.by[k] == nil {
			p.by[k] = new([2]int)
		}
		p.by[k][at]++
	}
	sum.all++
	if blocked != nil || left != text {
		sum.changed++
	}
	if observed {
		sum.observed++
	}
}
