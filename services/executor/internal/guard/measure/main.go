// Command measure says how good the guards' default chain is, on texts that the caller
// brings. At prompt injection:
//
//	go run ./services/executor/internal/guard/measure -developed P_a,N_b -split 'P_a=task complete' FILE
//
// Each line of the file is a JSON object with "set", "label" (1 for an injection, 0
// for a text that is none) and "text". It prints for each set how many texts the guard
// "injection" has noted, and the means over sets: of those that its rules
// were developed with, as told by -developed (beginnings of names), and of the
// others, which alone say something of texts that nobody has seen. Of the set of -split
// it also says how many were noted of those that match the expression and of those that
// do not, where some of its templates have a phrase and others have none.
//
// With -plain it is about text without anything to be found, such as logs:
//
//	go run ./services/executor/internal/guard/measure -plain FILE...
//
// It prints for each file how many lines, and how many blocks of 16 KiB, the chain
// changes as results, and in how many it notes something and leaves it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("measure", flag.ContinueOnError)
	fs.SetOutput(stderr)
	developed := fs.String("developed", "", "`beginnings` of the names of sets that rules were developed with, with commas between them")
	plainly := fs.Bool("plain", false, "the files are benign text, not rows")
	split := fs.String("split", "", "`SET=EXPRESSION`: tell the texts of the set that match from the others, too")
	misses := fs.String("misses", "", "print the texts of this `set` about which the guard is wrong")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 && (!*plainly || fs.NArg() == 0) {
		return errors.New("the file with the texts must be named, and one only unless it is -plain")
	}
	chain, err := guard.New(guard.DefaultConfig(), nil, nil)
	if err != nil {
		return err
	}
	if *plainly {
		return reportPlain(stdout, chain, fs.Args())
	}
	divided, phrase, _ := strings.Cut(*split, "=")
	expression, err := regexp.Compile(phrase)
	if err != nil {
		return fmt.Errorf("-split: %w", err)
	}
	file, err := os.Open(fs.Arg(0))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	sets := make(map[string]*set)
	var parts [2]set // of the set that is divided: what matches, and what does not
	err = read(file, func(r row) {
		s := sets[r.Set]
		if s == nil {
			s = &set{bad: r.Label == 1}
			sets[r.Set] = s
		}
		noted := injected(chain, r.Text)
		s.add(noted)
		if r.Set == divided && expression.MatchString(r.Text) {
			parts[0].add(noted)
		} else if r.Set == divided {
			parts[1].add(noted)
		}
		if r.Set == *misses && noted != s.bad {
			fmt.Fprintf(stdout, "%s\t%q\n", r.ID, r.Text)
		}
	})
	if err != nil {
		return err
	}
	if err := report(stdout, sets, strings.Split(*developed, ",")); err != nil || divided == "" {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: %d of %d that match, %d of %d others\n", divided, parts[0].noted, parts[0].rows, parts[1].noted, parts[1].rows)
	return err
}

// row is one line of the file.
type row struct {
	ID    string `json:"id"`
	Set   string `json:"set"`
	Label int    `json:"label"`
	Text  string `json:"text"`
}

// maxLine bounds a line of the file, in bytes.
const maxLine = 8 << 20

func read(r io.Reader, do func(row)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		var one row
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if one.Set == "" || one.Label != 0 && one.Label != 1 {
			return fmt.Errorf("line %d: there must be a set, and a label of 0 or 1", n)
		}
		do(one)
	}
	return lines.Err()
}

// set is what was found in the texts of one set.
type set struct {
	bad         bool
	rows, noted int
}

func (s *set) add(noted bool) {
	if s.rows++; noted {
		s.noted++
	}
}

func (s *set) rate() float64 { return 100 * float64(s.noted) / float64(s.rows) }

// injected reports whether the guard notes anything about a text.
func injected(chain *guard.Chain, text string) bool {
	check := chain.For(context.Background(), guard.Call{Tool: "measured"})
	_, _ = check.Text(text, "") // what other guards do to it is as it is in life
	for _, f := range check.Findings() {
		if f.GetGuard() == "injection" {
			return true
		}
	}
	return false
}

// report prints a table of the sets, and the means.
func report(w io.Writer, sets map[string]*set, developed []string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	type group struct{ bad, seen bool }
	rates := make(map[group][]float64)
	fmt.Fprintln(t, "set\ttexts\tnoted\t%\t")
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		s := sets[name]
		seen := slices.ContainsFunc(developed, func(d string) bool { return d != "" && strings.HasPrefix(name, d) })
		mark := map[bool]string{true: "developed with"}[seen]
		fmt.Fprintf(t, "%s\t%d\t%d\t%.1f\t%s\n", name, s.rows, s.noted, s.rate(), mark)
		rates[group{s.bad, seen}] = append(rates[group{s.bad, seen}], s.rate())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, bad := range []bool{true, false} {
		kind := map[bool]string{true: "injections found", false: "others noted"}[bad]
		seen, unseen := rates[group{bad, true}], rates[group{bad, false}]
		fmt.Fprintf(w, "%s, mean over sets: developed with %.1f %%, unseen %.1f %%, all %.1f %%\n",
			kind, mean(seen), mean(unseen), mean(slices.Concat(seen, unseen)))
	}
	return nil
}

func mean(all []float64) (sum float64) {
	for _, r := range all {
		sum += r / float64(len(all))
	}
	return sum
}
