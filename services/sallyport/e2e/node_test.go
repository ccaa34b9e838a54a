//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"
)

// nodeDriver talks to client-v1.mjs or client-v2.mjs: a line of JSON to it, a
// line back.
type nodeDriver struct {
	cmd  *exec.Cmd
	in   *json.Encoder
	out  *json.Decoder
	errs *limited
}

// startNode runs a driver in JavaScript for the test's time.
func startNode(t *testing.T, script string) driver {
	t.Helper()
	d := &nodeDriver{cmd: exec.CommandContext(t.Context(), node(t), script), errs: &limited{}}
	d.cmd.WaitDelay = 5 * time.Second
	d.cmd.Stderr = d.errs
	stdin, err := d.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = d.cmd.Wait() // the test's context has killed it
	})
	d.in, d.out = json.NewEncoder(stdin), json.NewDecoder(stdout)
	return d
}

func (d *nodeDriver) do(ctx context.Context, in instruction) (outcome, error) {
	// The script answers in time by itself; should it hang, this ends it and the
	// read below.
	defer context.AfterFunc(ctx, func() { _ = d.cmd.Process.Kill() })()
	if err := d.in.Encode(in); err != nil {
		return outcome{}, fmt.Errorf("instruct: %w\n%s", err, d.errs)
	}
	var out outcome
	if err := d.out.Decode(&out); err != nil {
		return outcome{}, fmt.Errorf("read the result: %w\n%s", err, d.errs)
	}
	return out, nil
}

// limited keeps the start of what a client says on standard error.
type limited struct{ text []byte }

var _ io.Writer = (*limited)(nil)

func (l *limited) Write(b []byte) (int, error) {
	if room := 8<<10 - len(l.text); room > 0 {
		l.text = append(l.text, b[:min(room, len(b))]...)
	}
	return len(b), nil
}

func (l *limited) String() string { return string(l.text) }
