package handoff

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A workspace is the directory that the runs of one server share.
//
//	server.log     what happened, for people
//	server.pid     the serving process
//	conn.sock      → run/000007.sock       where a successor finds its predecessor
//	control.sock   → run/000007.control    the control API of the serving run
//	lock           held as long as any run of the line lives
//	journal/       000007.db: one file for each run
//	run/           sockets, each bound by the run whose number it bears
//
// Nobody removes a name that is not its own, but for the sockets of runs that have died: see sweep.
type workspace struct{ dir string }

// maxSocketPath is what fits into sockaddr_un.sun_path (unix(7)).
const maxSocketPath = 107

// openWorkspace makes what is missing, and checks that only its owner can write there.
func openWorkspace(dir string) (*workspace, error) {
	w := &workspace{dir}
	if longest := w.path("run", "000000.control"); len(longest) > maxSocketPath {
		return nil, fmt.Errorf("workspace path is too long for a socket: %q has %d bytes, %d fit; use a shorter -w, or a relative one",
			longest, len(longest), maxSocketPath)
	}
	for _, d := range []string{dir, w.path("run"), w.path("journal")} {
		if err := ownDir(d); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// ownDir makes a directory that only we can use, or checks that one is ours. An existing workspace may be read by others, since it is the
// working directory by default; the directories in it may not.
func ownDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("workspace: %w", err)
	}
	var st unix.Stat_t
	denied := unix.Access(dir, unix.W_OK)
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("workspace: %w", &os.PathError{Op: "stat", Path: dir, Err: err})
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("workspace: %s is not a directory", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("workspace: %s belongs to uid %d, and this process runs as %d; choose another -w", dir, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return fmt.Errorf("workspace: %s can be written by others (mode %04o); chmod go-w it, or choose another -w", dir, st.Mode&0o7777)
	case denied != nil:
		return fmt.Errorf("workspace: %s is not writable: %w", dir, denied)
	}
	return nil
}

func (w *workspace) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

func (w *workspace) socket(run int) string  { return w.path("run", fmt.Sprintf("%06d.sock", run)) }
func (w *workspace) control(run int) string { return w.path("run", fmt.Sprintf("%06d.control", run)) }

// tryLock takes the lock that the runs of one line hold in turn. It returns nil if another line has it.
func (w *workspace) tryLock() (*os.File, error) {
	f, err := os.OpenFile(w.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("workspace: %w", err)
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
		return f, nil
	case unix.EWOULDBLOCK:
		f.Close()
		return nil, nil
	default:
		f.Close()
		return nil, fmt.Errorf("workspace: locking %s: %w", f.Name(), err)
	}
}

// listenUnix binds a socket of this run; the caller closes it. A leftover of the name can only be of a run whose journal is gone: the number
// is ours now.
func listenUnix(network, path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("workspace: %w", err)
	}
	// The directory is 0700 already; the mode is for those who move it elsewhere.
	old := syscall.Umask(0o177)
	l, err := net.ListenUnix(network, &net.UnixAddr{Net: network, Name: path})
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("workspace: %w", err)
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// point makes a run the one that is found in this workspace. Each of the names changes at once, but one after the other.
func (w *workspace) point(run, pid int) error {
	return errors.Join(
		w.link("conn.sock", filepath.Join("run", filepath.Base(w.socket(run)))),
		w.link("control.sock", filepath.Join("run", filepath.Base(w.control(run)))),
		w.replace("server.pid", func(tmp string) error { return os.WriteFile(tmp, []byte(strconv.Itoa(pid)+"\n"), 0o644) }),
	)
}

// pointsTo is the run that is found in this workspace, 0 if none.
func (w *workspace) pointsTo() (run int) {
	target, _ := os.Readlink(w.path("conn.sock"))
	run, _ = strconv.Atoi(strings.TrimSuffix(filepath.Base(target), ".sock"))
	return run
}

func (w *workspace) link(name, target string) error {
	return w.replace(name, func(tmp string) error { return os.Symlink(target, tmp) })
}

// replace puts a new thing in the place of an old one, at once: whoever looks finds one or the other.
func (w *workspace) replace(name string, make func(tmp string) error) error {
	tmp := w.path("run", fmt.Sprintf("%s.%d", name, os.Getpid()))
	os.Remove(tmp)
	if err := make(tmp); err != nil {
		return fmt.Errorf("workspace: %w", err)
	}
	if err := os.Rename(tmp, w.path(name)); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("workspace: %w", err)
	}
	return nil
}

// leave removes this run's own names. Those that show the way to it are removed only if they still do.
func (w *workspace) leave(run, pid int) {
	os.Remove(w.socket(run))
	os.Remove(w.control(run))
	for name, own := range map[string]string{"conn.sock": w.socket(run), "control.sock": w.control(run)} {
		if target, err := os.Readlink(w.path(name)); err == nil && filepath.Base(target) == filepath.Base(own) {
			os.Remove(w.path(name))
		}
	}
	if w.pid() == pid {
		os.Remove(w.path("server.pid"))
	}
}

// sweep removes what runs have left behind which did not come to remove it: sockets that nobody listens on, and names that were about to
// replace others. A socket that was only just bound looks the same for a moment, so it takes two looks.
func (w *workspace) sweep() {
	first := w.deserted()
	if len(first) == 0 {
		return
	}
	time.Sleep(50 * time.Millisecond)
	for _, path := range w.deserted() {
		if slices.Contains(first, path) {
			os.Remove(path)
		}
	}
}

// deserted is what there is in run/ of runs that have ended.
func (w *workspace) deserted() (paths []string) {
	entries, _ := os.ReadDir(w.path("run"))
	for _, e := range entries {
		if pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(e.Name()), ".")); err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			paths = append(paths, w.path("run", e.Name())) // see replace
			continue
		}
		network := map[string]string{".sock": "unixpacket", ".control": "unix"}[filepath.Ext(e.Name())]
		if network == "" || e.Type() != fs.ModeSocket {
			continue
		}
		path := w.path("run", e.Name())
		c, err := net.DialUnix(network, nil, &net.UnixAddr{Net: network, Name: path})
		if err == nil {
			c.Close()
		} else if errors.Is(err, unix.ECONNREFUSED) {
			paths = append(paths, path)
		}
	}
	return paths
}

// pid is what server.pid says, 0 if nothing.
func (w *workspace) pid() int {
	b, _ := os.ReadFile(w.path("server.pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}
