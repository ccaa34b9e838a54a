//go:build !linux

package launch

import "syscall"

// attributes give the child a process group of its own.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
