package handoff

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A peer is the process at the other end of a Unix socket, as the kernel vouches for it.
type peer struct {
	pid   int
	uid   int
	pidfd *os.File // nil where only the credentials were asked for
}

// errForeign says that a process of another user has knocked.
var errForeign = errors.New("peer is of another user")

const soPeerPIDFD = 77 // SO_PEERPIDFD, since Linux 6.5; package unix does not have it for all architectures

// credentials tells who is at the other end of a socket, and refuses strangers.
func credentials(c *net.UnixConn) (p peer, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return p, err
	}
	cerr := rc.Control(func(fd uintptr) { p, err = credentialsOf(int(fd)) })
	return p, errors.Join(cerr, err)
}

func credentialsOf(fd int) (peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return peer{}, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	p := peer{pid: int(cred.Pid), uid: int(cred.Uid)}
	if p.uid != os.Geteuid() {
		return p, fmt.Errorf("%w: uid %d, pid %d", errForeign, p.uid, p.pid)
	}
	return p, nil
}

// identify is credentials with a pidfd, without which nobody can be fenced or waited for. The caller closes it.
func identify(c *net.UnixConn) (p peer, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return p, err
	}
	cerr := rc.Control(func(fd uintptr) {
		if p, err = credentialsOf(int(fd)); err != nil {
			return
		}
		if p.pid == 0 { // it is in another pid namespace
			err = errors.New("peer is in another pid namespace: it could not be waited for")
			return
		}
		var pidfd int
		if pidfd, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, soPeerPIDFD); err != nil {
			// An older kernel. The peer is alive, since it has the other end: its pid is not anybody else's yet.
			pidfd, err = unix.PidfdOpen(p.pid, 0)
		}
		if err == nil {
			p.pidfd = pidfdFile(pidfd)
		}
	})
	return p, errors.Join(cerr, err)
}

// pidfdFile makes a pidfd one that the runtime's poller can wait for.
func pidfdFile(fd int) *os.File {
	unix.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "pidfd")
}

// waitEnd returns true when the process has certainly ended, and false if the file is closed or its read deadline passes before.
func waitEnd(pidfd *os.File) bool {
	rc, err := pidfd.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	rc.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(poll, 0)
		ended = n > 0
		return ended
	})
	return ended
}

// pollEnd is waitEnd for a pidfd that the runtime's poller does not have.
func pollEnd(pidfd *os.File) {
	rc, err := pidfd.SyscallConn()
	if err != nil {
		return
	}
	rc.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for n := 0; n == 0 && err == nil || err == unix.EINTR; {
			n, err = unix.Poll(poll, -1)
		}
	})
}

// kill ends the process for certain, sooner or later; waitEnd tells when. One that has ended already is no error.
func kill(pidfd *os.File) error {
	rc, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	cerr := rc.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), syscall.SIGKILL, nil, 0) })
	if err == unix.ESRCH {
		err = nil // it has ended already
	}
	return errors.Join(cerr, err)
}

// sameClock refuses a process whose CLOCK_MONOTONIC is another one (time_namespaces(7)): the two would not agree on how long a session has
// stood still, nor on what came first.
func sameClock(pid int) error {
	ours, err := os.Readlink("/proc/self/ns/time")
	theirs, perr := os.Readlink(fmt.Sprintf("/proc/%d/ns/time", pid))
	if err != nil || perr != nil || ours == theirs {
		return nil // where there are no such namespaces, there is one clock
	}
	return fmt.Errorf("the successor (pid %d) is in another time namespace than this run, where the monotonic clock is another one; "+
		"start it in the same namespace", pid)
}
