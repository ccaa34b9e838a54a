package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/mcp"
)

// toolVerdict is how a case went.
type toolVerdict struct {
	At    string        `json:"at"`
	Name  string        `json:"name"`
	Tool  string        `json:"tool"`
	Took  time.Duration `json:"took"`
	Wrong []string      `json:"wrong"` // empty: as expected
}

// run makes the call. An error is about the way to the tool, not about the tool.
func (c *toolCase) run(ctx context.Context, client mcp.Client) (toolVerdict, error) {
	v := toolVerdict{Name: cmp.Or(c.Name, c.Call), Tool: c.Call, Wrong: []string{}}
	arguments := c.Arguments
	if arguments == nil {
		arguments = map[string]any{}
	}
	start := time.Now()
	result, err := client.Call(ctx, c.Call, arguments)
	v.Took = time.Since(start)
	if e, ok := errors.AsType[*mcp.Error](err); ok && e.Code != 0 { // an answer, too
		result = &mcp.Result{IsError: true, Content: []mcp.Content{{Type: "text", Text: e.Error()}}}
	} else if err != nil {
		return v, err
	}
	v.Wrong = append(v.Wrong, c.wrongs(result)...)
	return v, nil
}

// wrongs says in what a result is not the expected one.
func (c *toolCase) wrongs(r *mcp.Result) (all []string) {
	text := resultText(r)
	switch {
	case c.Error != "" && !r.IsError:
		return []string{fmt.Sprintf("it has not failed, want an error with %q; got %s", c.Error, text)}
	case c.Error != "" && !strings.Contains(text, c.Error):
		return []string{fmt.Sprintf("want an error with %q, got %s", c.Error, text)}
	case c.Error == "" && r.IsError:
		return []string{"it has failed: " + text}
	}
	if !strings.Contains(text, c.Contains) {
		all = append(all, fmt.Sprintf("want %q in the text, got %s", c.Contains, text))
	}
	if c.Result == nil {
		return all
	}
	var want, got any
	raw, err := json.Marshal(c.Result)
	if err == nil {
		err = json.Unmarshal(raw, &want) // with the types that JSON has
	}
	if err != nil {
		return append(all, fmt.Sprintf("result: %v", err))
	}
	if err := json.Unmarshal(r.Structured, &got); err != nil {
		return append(all, "want a structured result, got the text "+text)
	}
	return append(all, differences("", want, got)...)
}

// differences are the fields that are not as they should be. Objects may have more.
func differences(at string, want, got any) (all []string) {
	fields, ok := want.(map[string]any)
	have, object := got.(map[string]any)
	if !ok || !object {
		if reflect.DeepEqual(want, got) {
			return nil
		}
		return []string{fmt.Sprintf("%s: want %s, got %s", cmp.Or(at, "result"), jsonText(want), jsonText(got))}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value, ok := have[name]
		if !ok {
			all = append(all, fmt.Sprintf("%s/%s: want %s, and it is not there", at, name, jsonText(fields[name])))
			continue
		}
		all = append(all, differences(at+"/"+name, fields[name], value)...)
	}
	return all
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// resultText is what a model reads of a result.
func resultText(r *mcp.Result) string {
	var parts []string
	for _, c := range r.Content {
		parts = append(parts, cmp.Or(c.Text, "["+c.Type+"]"))
	}
	return strings.Join(parts, "\n")
}

func showToolVerdicts(w io.Writer, out *output, results []toolVerdict) error {
	bad := 0
	rows := [][]string{{"", "CASE", "TOOL", "TOOK"}}
	for _, r := range results {
		mark := "ok"
		if len(r.Wrong) > 0 {
			mark, bad = "FAIL", bad+1
		}
		rows = append(rows, []string{mark, r.Name, r.Tool, r.Took.Round(100 * time.Microsecond).String()})
	}
	if out.json() {
		if err := writeJSON(w, results); err != nil {
			return failed(err)
		}
	} else if err := table(w, rows); err != nil {
		return failed(err)
	}
	for _, r := range results {
		if out.json() || len(r.Wrong) == 0 {
			continue
		}
		fmt.Fprintf(w, "\nFAIL %s (%s)\n", printable(r.Name), r.At)
		for _, wrong := range r.Wrong {
			fmt.Fprintf(w, "  %s\n", printable(wrong))
		}
	}
	if !out.json() {
		fmt.Fprintf(w, "\n%d of %d cases are as expected\n", len(results)-bad, len(results))
	}
	if bad > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}
