// Package span says where in a text a guard has found something.
package span

// Found is a part of a text. Those of one text are sorted and do not overlap.
type Found struct {
	// Start and End are offsets in bytes; the part is text[Start:End].
	Start, End int
	// Rule is what it was taken for, such as "aws-access-token": at most 64
	// characters, for the record.
	Rule string
	// Instead is what to put in its place; empty to leave it out.
	Instead string
}

// Replace returns the text with what was found replaced.
func Replace(text string, found []Found) string {
	out := make([]byte, 0, len(text))
	at := 0
	for _, f := range found {
		out = append(out, text[at:f.Start]...)
		out = append(out, f.Instead...)
		at = f.End
	}
	return string(append(out, text[at:]...))
}
