//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	guardv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/guard/v1"
	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// TestGuardInPython has calls looked at by the example of an external guard.
func TestGuardInPython(t *testing.T) {
	dir := t.TempDir()
	address, image := "unix:"+filepath.Join(dir, "guard"), filepath.Join(dir, "guard.binpb")
	writeImage(t, image, guardv1.File_sallyport_guard_v1_guard_proto)
	ready := start(t, launch.Options{Config: fmt.Sprintf(`
roles:
  executor:
    guards:
      external: {address: %q, deadline: 5s}
      defaults: {external: {results: redact, on_failure: closed}}
      roles: {admin: {external: {arguments: block}}}
`, address)})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	call := func(as, text string) (string, error) {
		out, err := exec.CommandContext(ctx, program, "call", "echo", "text="+text, "--as", as, "--state", ready.StateDir).CombinedOutput()
		return string(out), err
	}
	if out, err := call("analyst", "hello"); err == nil || !strings.Contains(out, "failed:unavailable") {
		t.Errorf("without the guard: %v, %s", err, out)
	}

	certificate := strings.TrimSpace(output(ctx, t, program, "cert", "guard", "--state", ready.StateDir))
	guard := exec.CommandContext(ctx, python, filepath.Join(examples, "guard-python", "guard.py"), image, filepath.Dir(certificate), address)
	errs := &limited{}
	guard.Stderr, guard.WaitDelay = errs, 5*time.Second
	if err := guard.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := guard.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := guard.Wait(); err != nil {
			t.Errorf("guard.py: %v\n%s", err, errs)
		}
	}()
	until(ctx, t, "a call with the guard", func() error {
		if out, err := call("analyst", "hello"); err != nil || !strings.Contains(out, "hello") {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if out, err := call("analyst", "☂ plans of NIGHTJAR, 2027"); err != nil || !strings.Contains(out, "☂ plans of [removed: code-name], 2027") {
		t.Errorf("a result: %v, %s", err, out)
	}
	if out, err := call("admin", "plans of Kestrel"); err == nil || !strings.Contains(out, `echo was not called: the guard "external" has found code-name in its arguments at /text`) {
		t.Errorf("arguments: %v, %s", err, out)
	}
}

// writeImage writes a file's descriptors with all that it imports, as buf build does.
func writeImage(t *testing.T, path string, file protoreflect.FileDescriptor) {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{}
	seen := make(map[string]bool)
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(file)
	raw, err := proto.Marshal(set)
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
