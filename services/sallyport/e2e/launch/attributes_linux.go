package launch

import "syscall"

// attributes give the child a process group of its own, and have the kernel tell
// it to stop should this process end without doing so.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
