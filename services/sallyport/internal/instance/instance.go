// Package instance keeps what a running `sallyport dev` is: the file in its state
// folder by which other commands find it, and the lock that lets only one run
// there.
package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Instance is a running system. The fields up to Processes are the contract of
// `sallyport dev --json`; scripts depend on them.
type Instance struct {
	MCPURL    string            `json:"mcp_url"`
	MCPURLs   []string          `json:"mcp_urls"`
	AdminURL  string            `json:"admin_url"`
	NATSURL   string            `json:"nats_url"`
	StateDir  string            `json:"state_dir"`
	Keys      map[string]string `json:"keys"`
	Processes []Process         `json:"processes"`
	// Peers holds where operators reach the roles they may call, over mTLS.
	Peers map[string]string `json:"peers"`
}

// Process is one of its processes.
type Process struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	Address  string `json:"address"`
	AdminURL string `json:"admin_url,omitempty"`
}

// ErrNone says that nothing runs with a state folder.
var ErrNone = errors.New("no running instance")

const (
	file = "instance.json"
	lock = "lock"
)

// Lock takes the state folder for this process until the file it returns is
// closed, or the process ends.
func Lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another sallyport is running with the state in %s; stop it, or choose another folder with --state", dir)
	}
	return f, nil
}

// Save tells other commands of a running instance. The file holds secrets and is
// for the owner alone.
func Save(i Instance) error {
	b, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(i.StateDir, file+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(i.StateDir, file))
}

// Remove takes it back.
func Remove(dir string) { _ = os.Remove(filepath.Join(dir, file)) } // a stale file is found out by its lock

// Find returns what runs with the state in dir, or [ErrNone].
func Find(dir string) (Instance, error) {
	var i Instance
	b, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return i, fmt.Errorf("%w with the state in %s; start one with `sallyport dev`, or name its folder with --state or SALLYPORT_STATE", ErrNone, dir)
	}
	if err != nil {
		return i, err
	}
	if err := json.Unmarshal(b, &i); err != nil {
		return i, fmt.Errorf("%s: %w", filepath.Join(dir, file), err)
	}
	f, err := Lock(dir)
	if err == nil { // nobody holds the lock: the instance died
		_ = f.Close()
		return i, fmt.Errorf("%w with the state in %s: the last one has ended; start it again with `sallyport dev`", ErrNone, dir)
	}
	return i, nil
}
