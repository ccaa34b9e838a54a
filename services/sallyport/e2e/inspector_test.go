//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

const inspectorProgram = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"

// wasKilled is the failure of an Inspector that was killed before it had an
// answer: its command line has no other way to give up a call.
const wasKilled = "killed"

// inspector runs the MCP Inspector's command line, a process for each
// instruction.
type inspector struct {
	node, home, era string
}

func newInspector(t *testing.T, era string) driver {
	t.Helper()
	return inspector{node: node(t), home: t.TempDir(), era: era}
}

func (i inspector) do(ctx context.Context, in instruction) (outcome, error) {
	args := []string{
		inspectorProgram, "--cli", in.URL, "--transport", "http", "--protocol-era", i.era,
		"--stored-auth-only", "--quiet", "--format", "json", "--header", "Authorization: Bearer " + in.Key,
	}
	for name, value := range in.Headers {
		args = append(args, "--header", name+": "+value)
	}
	switch in.Op {
	case opHello:
		args = append(args, "--method", "initialize")
	case opList:
		// Strict: a schema that some model could not be given is an error too.
		args = append(args, "--method", "tools/list", "--strict")
	case opCall, opCancel:
		arguments := []byte("{}")
		if in.Arguments != nil {
			var err error
			if arguments, err = json.Marshal(in.Arguments); err != nil {
				return outcome{}, err
			}
		}
		args = append(args, "--method", "tools/call", "--tool-name", in.Tool, "--tool-args-json", string(arguments))
	}
	cmd := exec.CommandContext(ctx, i.node, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	// It must not find, nor leave, anything in the home of whoever runs the test.
	cmd.Env = append(os.Environ(), "HOME="+i.home, "MCP_INSPECTOR_SECRET_STORE=memory")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if in.Op == opCancel && context.Cause(ctx) != nil && stdout.Len() == 0 {
		return outcome{Failure: &failure{Kind: wasKilled, Message: cmd.ProcessState.String()}}, nil
	}
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		return outcome{}, err
	}
	if stdout.Len() > 0 {
		return i.answered(in.Op, exit, stdout.Bytes(), stderr.Bytes())
	}
	var said struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if !failed || json.Unmarshal(lastLine(stderr.Bytes()), &said) != nil {
		return outcome{}, fmt.Errorf("the Inspector said nothing that can be understood: %v\n%s", err, stderr.Bytes())
	}
	return outcome{Failure: &failure{Kind: said.Error.Code, Code: fmt.Sprintf("exit %d", exit.ExitCode()), Message: said.Error.Message}}, nil
}

// answered reads standard output. The exit code is 5 for a tool's error, and
// tells nothing else that the answer does not.
func (i inspector) answered(o op, exit *exec.ExitError, stdout, stderr []byte) (outcome, error) {
	var said struct {
		Result struct {
			result

			ProtocolVersion string `json:"protocolVersion"`
			Tools           []struct {
				Name string `json:"name"`
			} `json:"tools"`
		} `json:"result"`
	}
	if err := json.Unmarshal(stdout, &said); err != nil {
		return outcome{}, fmt.Errorf("read the Inspector's answer: %w\n%s", err, stdout)
	}
	wantExit := said.Result.IsError
	if (exit != nil) != wantExit || exit != nil && exit.ExitCode() != 5 {
		return outcome{}, fmt.Errorf("the Inspector ended with %v, want an error: %t\n%s\n%s", exit, wantExit, stdout, stderr)
	}
	out := outcome{Protocol: said.Result.ProtocolVersion}
	for _, tool := range said.Result.Tools {
		out.Tools = append(out.Tools, tool.Name)
	}
	if o == opCall || o == opCancel {
		out.Result = &said.Result.result
	}
	return out, nil
}

func lastLine(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[bytes.LastIndexByte(b, '\n')+1:]
}
