package handoff

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Mending: somebody has removed names from the workspace of a server that lives, and it has to be found there all the same.

// mend puts back what leads to this run, so that a successor finds it. It is called by the goroutine that owns the run's life, before each
// upgrade. What cannot be put back is told by the log, and by the successor that looks for it in vain.
func (r *run) mend() {
	err := r.mendSockets()
	if !leadsHere("unixpacket", r.ws.path("conn.sock")) || !leadsHere("unix", r.ws.path("control.sock")) || r.ws.pid() != os.Getpid() {
		r.log.Warn("the workspace does not lead to this run any more, and is mended")
		err = errors.Join(err, r.ws.point(r.number, os.Getpid()))
	}
	if err != nil {
		r.log.Error("the workspace cannot be mended", "error", err)
	}
}

// mendSockets binds our sockets anew if their names are gone, for nobody can reach the old ones any more.
func (r *run) mendSockets() error {
	if err := ownDir(r.ws.path("run")); err != nil {
		return err
	}
	var errs []error
	if !leadsHere("unixpacket", r.ws.socket(r.number)) {
		l, err := listenUnix("unixpacket", r.ws.socket(r.number))
		if err == nil {
			r.socket.Close()
			r.socket = l
			go r.answerDoor(l)
		}
		errs = append(errs, err)
	}
	if !leadsHere("unix", r.ws.control(r.number)) {
		l, err := listenUnix("unix", r.ws.control(r.number))
		if err == nil { // what has the old one open is the HTTP server, which closes both
			r.control.serve(&ownersOnly{l, r.log})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// leadsHere reports whether this process answers at a path. Where that cannot be told, for want of a descriptor perhaps, it says yes: what may be
// in order is left alone.
func leadsHere(network, path string) bool {
	c, err := net.DialUnix(network, nil, &net.UnixAddr{Net: network, Name: path})
	if err != nil {
		return !isNobody(err)
	}
	defer c.Close()
	p, err := credentials(c)
	return err == nil && p.pid == os.Getpid()
}

// isNobody reports whether the error of a dial says that nobody is there, rather than that somebody cannot be reached.
func isNobody(err error) bool {
	return slices.ContainsFunc([]error{
		unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ECONNREFUSED, unix.EPROTOTYPE, unix.EINVAL, // the last: a path too long to be bound
	}, func(nobody error) bool { return errors.Is(err, nobody) })
}

// holder finds a process that has the workspace's lock, whatever is left of the workspace's names; 0 = none. It looks from outside, since
// who tries a lock could be taken for its holder. Where two have it, in a handoff, server.pid decides.
func (w *workspace) holder() (pid int) {
	lock, err := os.Stat(w.path("lock"))
	if err != nil {
		return 0
	}
	serving := w.pid()
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		n, _ := strconv.Atoi(filepath.Base(p))
		if n != os.Getpid() && hasLocked(p, lock) && (pid == 0 || n == serving) {
			pid = n
		}
	}
	return pid
}

// hasLocked reports whether a process, by its directory in /proc, has a file open through which it is locked. To have it open is not enough:
// a backup does that, too.
func hasLocked(process string, file os.FileInfo) bool {
	fds, _ := os.ReadDir(filepath.Join(process, "fd"))
	for _, fd := range fds {
		path := filepath.Join(process, "fd", fd.Name())
		if to, err := os.Readlink(path); err != nil || filepath.Base(to) != file.Name() {
			continue // not to stat what may not answer, on a network
		}
		if info, err := os.Stat(path); err != nil || !os.SameFile(info, file) {
			continue
		}
		about, _ := os.ReadFile(filepath.Join(process, "fdinfo", fd.Name())) // "lock: 1: FLOCK ADVISORY WRITE …", see proc_pid_fdinfo(5)
		if bytes.Contains(about, []byte("FLOCK")) {
			return true
		}
	}
	return false
}
