// Package mcp is the little of an MCP client that the command line needs:
// revision 2026-07-28, one request after the other, JSON answers.
package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// revision of the protocol that the client speaks.
const revision = "2026-07-28"

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 32 << 20

// Client calls one endpoint with one key.
type Client struct {
	URL  string
	Key  string
	Name string // "sallyport/1.2"
	// ProofKey makes a proof for each request, where Key is bound to it. Nil makes
	// none.
	ProofKey *ProofKey
}

// Error is an answer that is not a result.
type Error struct {
	Status  int    // HTTP
	Code    int    // JSON-RPC, 0 if there was none
	Message string // for people
	Proof   ProofFlaw
}

// ProofFlaw is what a server finds wrong with the proof of a request.
type ProofFlaw int

const (
	// ProofFine is for errors of another kind.
	ProofFine ProofFlaw = iota
	// ProofNeeded says that the key is good with a proof alone, and there was none.
	ProofNeeded
	// ProofBad says that the proof is not good, or that the key takes none.
	ProofBad
)

// proofFlaw reads a challenge of the gateway (RFC 9449, 7.1). It names DPoP last.
func proofFlaw(challenge string) ProofFlaw {
	_, dpop, _ := strings.Cut(challenge, ", DPoP ")
	switch {
	case strings.Contains(dpop, `error="invalid_token"`):
		return ProofNeeded
	case strings.Contains(dpop, `error="invalid_dpop_proof"`):
		return ProofBad
	}
	return ProofFine
}

// Error implements error.
func (e *Error) Error() string {
	switch e.Status {
	case http.StatusUnauthorized:
		switch e.Proof {
		case ProofNeeded:
			return "the key is bound to a private key: name its file with --proof-key"
		case ProofBad:
			return "the proof is not accepted: --proof-key names another key than the API key is bound to, or it is bound to none; " +
				"or this clock is wrong; or the server is known to itself by another URL (roles.edge.public_url)"
		}
		return "the key is not accepted: it is missing, wrong, expired or revoked"
	case http.StatusForbidden:
		return "forbidden: " + e.Message
	}
	if e.Code != 0 {
		return fmt.Sprintf("%s (%d)", e.Message, e.Code)
	}
	return fmt.Sprintf("HTTP %d: %s", e.Status, e.Message)
}

// ErrUnreachable says that there was no answer at all.
var ErrUnreachable = errors.New("cannot reach")

// Tool is a tool as it is listed.
type Tool struct {
	Name        string          `json:"name"`
	Title       string          `json:"title"`
	Description string          `json:"description"`
	InputSchema json.RawMessage `json:"inputSchema"`
}

// Result is what a tool answered.
type Result struct {
	Content    []Content       `json:"content"`
	Structured json.RawMessage `json:"structuredContent"`
	IsError    bool            `json:"isError"`
	// Raw is the whole result as it came.
	Raw json.RawMessage `json:"-"`
}

// Content is a part of a result.
type Content struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// Tools returns every tool that the key may call.
func (c Client) Tools(ctx context.Context) ([]Tool, error) {
	var all []Tool
	cursor := ""
	for {
		params := map[string]any{}
		if cursor != "" {
			params["cursor"] = cursor
		}
		raw, err := c.do(ctx, "tools/list", "", params)
		if err != nil {
			return nil, err
		}
		var page struct {
			Tools      []Tool `json:"tools"`
			NextCursor string `json:"nextCursor"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, fmt.Errorf("read the list of tools: %w", err)
		}
		all = append(all, page.Tools...)
		if page.NextCursor == "" || page.NextCursor == cursor {
			return all, nil
		}
		cursor = page.NextCursor
	}
}

// Call calls a tool.
func (c Client) Call(ctx context.Context, tool string, arguments map[string]any) (*Result, error) {
	raw, err := c.do(ctx, "tools/call", tool, map[string]any{"name": tool, "arguments": arguments})
	if err != nil {
		return nil, err
	}
	r := &Result{Raw: raw}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("read the result: %w", err)
	}
	return r, nil
}

func (c Client) do(ctx context.Context, method, name string, params map[string]any) (json.RawMessage, error) {
	params["_meta"] = map[string]any{
		"io.modelcontextprotocol/protocolVersion":    revision,
		"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		"io.modelcontextprotocol/clientInfo":         map[string]any{"name": "sallyport", "version": c.Name},
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Authorization": "Bearer " + c.Key, "MCP-Protocol-Version": revision, "Mcp-Method": method, "Mcp-Name": name,
	} {
		if v != "" {
			req.Header.Set(k, v)
		}
	}
	if c.ProofKey != nil {
		proof, err := c.ProofKey.Prove(req.Method, c.URL, c.Key, time.Now())
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "DPoP "+c.Key)
		req.Header.Set("DPoP", proof)
	}
	resp, err := (&http.Client{Timeout: 5 * time.Minute}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrUnreachable, c.URL, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrUnreachable, c.URL, err)
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/event-stream" {
		answer = lastMessage(answer)
	}
	raw, err := result(resp.StatusCode, answer)
	var e *Error
	if errors.As(err, &e) {
		e.Proof = proofFlaw(resp.Header.Get("WWW-Authenticate"))
	}
	return raw, err
}

// lastMessage returns what the last event of a stream says: a call that lasts is
// answered with a stream, in which the result comes after all that is told
// meanwhile.
func lastMessage(stream []byte) (message []byte) {
	var event [][]byte
	for line := range bytes.Lines(append(stream, "\n\n"...)) {
		line = bytes.TrimRight(line, "\r\n")
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			event = append(event, bytes.TrimPrefix(data, []byte(" ")))
			continue
		}
		if len(line) == 0 && len(event) > 0 {
			message, event = bytes.Join(event, []byte("\n")), nil
		}
	}
	return message
}

func result(status int, answer []byte) (json.RawMessage, error) {
	var msg struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
		Title string `json:"title"` // problem+json
	}
	if err := json.Unmarshal(answer, &msg); err != nil {
		return nil, &Error{Status: status, Message: "the answer is not JSON"}
	}
	if msg.Error != nil {
		return nil, &Error{Status: status, Code: msg.Error.Code, Message: msg.Error.Message}
	}
	if status != http.StatusOK || msg.Result == nil {
		return nil, &Error{Status: status, Message: msg.Title}
	}
	return msg.Result, nil
}
