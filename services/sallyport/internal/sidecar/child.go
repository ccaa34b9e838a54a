package sidecar

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Names of what a server finds in its environment.
const (
	// ListenVariable holds the gRPC address to listen on, without TLS.
	ListenVariable = "SALLYPORT_LISTEN"
	// ImageVariable holds the file with its descriptors and all that they import, a
	// serialized google.protobuf.FileDescriptorSet: no generated code is needed.
	ImageVariable = "SALLYPORT_IMAGE"
)

// Child is the server as a process of ours.
type Child struct {
	// Target is where it listens: a socket in a folder that only we can open.
	Target string

	folder string
	cmd    *exec.Cmd
	ended  chan struct{}
	err    error // why it has ended
	stop   sync.Once
}

// Start starts a command as the server of an image. What it prints goes to output.
func Start(command []string, image []byte, output io.Writer) (*Child, error) {
	folder, err := os.MkdirTemp("", "sallyport-tool-") // for us alone
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "image.binpb")
	c := &Child{Target: "unix:" + filepath.Join(folder, "socket"), folder: folder, ended: make(chan struct{})}
	if err := os.WriteFile(file, image, 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Env = append(os.Environ(), ListenVariable+"="+c.Target, ImageVariable+"="+file)
	c.cmd.Stdout, c.cmd.Stderr = output, output
	// A group of its own: a Ctrl-C is for us, who let it finish its calls first.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.WaitDelay = time.Second
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	go func() {
		defer close(c.ended)
		err := c.cmd.Wait()
		if err == nil {
			err = errors.New("exit status 0")
		}
		c.err = fmt.Errorf("%s has ended: %w", command[0], err)
	}()
	return c, nil
}

// Ended is closed when the process has ended. A nil child, which is a server that
// is not ours, never ends.
func (c *Child) Ended() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.ended
}

// Err says why it has ended.
func (c *Child) Err() error { return c.err }

// patience is how long a server may take to end.
const patience = 10 * time.Second

// Stop ends the process and whatever it has started, and waits for it.
func (c *Child) Stop() {
	if c == nil {
		return
	}
	c.stop.Do(func() {
		c.signal(syscall.SIGTERM)
		select {
		case <-c.ended:
		case <-time.After(patience):
		}
		c.signal(syscall.SIGKILL) // what it has left behind, too
		<-c.ended
		_ = os.RemoveAll(c.folder) // in the system's folder for what may be lost
	})
}

func (c *Child) signal(s syscall.Signal) {
	_ = syscall.Kill(-c.cmd.Process.Pid, s) // which may be gone
}
