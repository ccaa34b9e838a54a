//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"strings"
)

// instruction is one thing to do, with a connection of its own. The drivers in
// JavaScript read it as JSON.
type instruction struct {
	Op        op                `json:"op"`
	URL       string            `json:"url"`
	Key       string            `json:"key"`
	Headers   map[string]string `json:"headers,omitempty"`
	Era       string            `json:"era,omitempty"`
	Tool      string            `json:"tool,omitempty"`
	Arguments map[string]any    `json:"arguments,omitempty"`
}

type op string

const (
	opHello op = "hello" // connect, no more
	opList  op = "list"  // all pages of tools/list
	opCall  op = "call"  // tools/call
	// opProgress is a call that asks for progress, which the outcome tells.
	opProgress op = "progress"
	// opCancel is a call that is given up at the first progress.
	opCancel op = "cancel"
)

// outcome is what a client made of it: the same form for all of them.
type outcome struct {
	// Protocol is the revision that was agreed on, where the client tells.
	Protocol string   `json:"protocol"`
	Tools    []string `json:"tools"`
	Result   *result  `json:"result"`
	// Progress is what the client was told of, for [opProgress].
	Progress []float64 `json:"progress"`
	Failure  *failure  `json:"failure"`
}

type result struct {
	IsError    bool           `json:"isError"`
	Content    []content      `json:"content"`
	Structured map[string]any `json:"structuredContent"`
	Meta       map[string]any `json:"_meta"`
}

type content struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// text is what the model reads.
func (r *result) text() string {
	var b strings.Builder
	for _, c := range r.Content {
		b.WriteString(c.Text)
	}
	return b.String()
}

// failure is an error that the client raised instead of returning a result.
type failure struct {
	Kind    string `json:"kind"`
	Code    any    `json:"code"`
	Status  any    `json:"status"`
	Message string `json:"message"`
}

// String is what expectations are compared with: "Kind code status: message".
func (f *failure) String() string {
	parts := []string{f.Kind}
	for _, v := range []any{f.Code, f.Status} {
		if v != nil {
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.Join(parts, " ") + ": " + f.Message
}

// A driver carries instructions out with one client.
type driver interface {
	do(ctx context.Context, in instruction) (outcome, error)
}
