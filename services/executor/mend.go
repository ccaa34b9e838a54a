package executor

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// maxMends is how often members are left out before a result is given up. What is
// told of one check of a schema is bounded.
const maxMends = 4

// maxNamed is how many members a note names.
const maxNamed = 8

// mend sees to it that a result which guards have changed keeps the tool's output
// schema: clients check it, and show their own error for a result that does not. A
// member that does not fit any more is left out where the schema allows that, or else
// all data is withheld and the result is an error. The text stays in both cases, and a note
// is added. data is what the tool has sent.
func (c *call) mend(end *ending, data []byte) {
	changed, r := end.answer.JSON, end.answer.Result
	if r != nil {
		changed = r.GetStructured()
	}
	if bytes.Equal(changed, data) || r.GetIsError() {
		return
	}
	wrong, err := c.entry.CheckOutput(changed)
	if err == nil && len(wrong) == 0 {
		return
	}
	if r == nil { // the data was its text too, and stays that
		r = &providerv1.ToolResult{Content: textContent(string(changed))}
		end.answer.JSON, end.answer.Result = nil, r
	}
	var gone []string
	for range maxMends {
		var left []string
		if changed, left = without(changed, wrong); err != nil || len(left) == 0 {
			break
		}
		gone = append(gone, left...)
		if wrong, err = c.entry.CheckOutput(changed); err == nil && len(wrong) == 0 {
			r.Structured = changed
			r.Content = append(r.Content, textContent("[The structured result lacks "+named(gone)+
				": what guards have put there does not fit the tool's output schema. The text is whole.]")...)
			return
		}
	}
	r.Structured, r.IsError = nil, true
	r.Content = append(r.Content, textContent(fmt.Sprintf("[%s was called, but its structured result is withheld: "+
		"with what guards have replaced in it, it does not fit the tool's output schema. The text is whole; calling again will not help.]", c.entry.Name()))...)
	end.refusal = &executorv1.Refusal{Reason: auditv1.Reason_REASON_RESULT_INVALID}
	end.status, end.reason = auditv1.Status_STATUS_FAILED, auditv1.Reason_REASON_RESULT_INVALID
}

// named lists members by their pointers.
func named(pointers []string) string {
	more := ""
	if n := len(pointers) - maxNamed; n > 0 {
		pointers, more = pointers[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return printable(strings.Join(pointers, ", ")) + more
}

// without returns a JSON value without the members of objects that violations are
// about, and which these were. It returns none for what is not JSON.
func without(raw []byte, wrong []*executorv1.Violation) (out []byte, gone []string) {
	unfit := make(map[jsontext.Pointer]bool, len(wrong))
	for _, v := range wrong {
		unfit[jsontext.Pointer(v.GetPointer())] = true
	}
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	var b bytes.Buffer
	e := jsontext.NewEncoder(&b)
	for {
		tok, err := d.ReadToken()
		if err == io.EOF {
			return bytes.TrimSpace(b.Bytes()), gone
		}
		if err != nil {
			return nil, nil
		}
		kind, n := d.StackIndex(d.StackDepth())
		if isName := kind == '{' && n%2 == 1; isName && unfit[d.StackPointer()] {
			gone = append(gone, string(d.StackPointer()))
			err = d.SkipValue()
		} else {
			err = e.WriteToken(tok)
		}
		if err != nil {
			return nil, nil
		}
	}
}
