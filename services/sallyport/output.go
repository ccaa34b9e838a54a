package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// output is the -o flag.
type output string

func (o *output) register(cmd *cobra.Command) {
	*o = "table"
	cmd.Flags().VarP(o, "output", "o", "`format`: table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// String implements pflag.Value.
func (o *output) String() string { return string(*o) }

// Type implements pflag.Value.
func (*output) Type() string { return "format" }

// Set implements pflag.Value.
func (o *output) Set(v string) error {
	if v != "table" && v != "json" {
		return fmt.Errorf("%q is neither table nor json", v)
	}
	*o = output(v)
	return nil
}

func (o *output) json() bool { return *o == "json" }

// writeJSON prints one value on one line.
func writeJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// table prints rows in columns; the first row is the heading.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		fmt.Fprintln(t, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	return t.Flush()
}

// printable replaces what could make a terminal do something.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r >= 0xe0000 && r <= 0xe007f:
			return '\uFFFD'
		}
		return r
	}, s)
}
