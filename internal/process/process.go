// Package process ends processes that are nobody's children here: after an upgrade, a server is not the one that was started.
package process

import (
	"fmt"
	"os"
	"time"

	_ "baton/internal/linux"

	"golang.org/x/sys/unix"
)

// Stop asks a process to end, with SIGTERM, and waits. One that has not ended after patience is killed, which is an error.
func Stop(pid int, patience time.Duration) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	if err := unix.PidfdSendSignal(pidfd, unix.SIGTERM, nil, 0); err != nil {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 100)
		if n > 0 || err != nil && err != unix.EINTR { // the runtime's own signals interrupt it
			return os.NewSyscallError("poll", err)
		}
	}
	unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	return fmt.Errorf("pid %d did not stop within %v, and was killed", pid, patience)
}
