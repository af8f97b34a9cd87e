package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxRun is the highest run number: a session's id has 24 bits for it.
const maxRun = 1<<24 - 1

// Why a file was set aside, as the end of its new name.
const (
	damaged = "damaged"
	newer   = "newer"
)

var fileName = regexp.MustCompile(`^(\d{6,8})\.db(?:\.(damaged|newer)(?:\.\d+)?)?$`)

// A file is one of a directory's journals.
type file struct {
	path  string
	run   int
	aside string // damaged, newer, or empty: in its place
}

// FileName is the name of a run's file within its directory.
func FileName(run int) string { return fmt.Sprintf("%06d.db", run) }

// files lists dir's journals by run, those set aside included.
func files(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []file
	for _, e := range entries {
		m := fileName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		run, err := strconv.Atoi(m[1])
		if err != nil || run < 1 || run > maxRun {
			continue
		}
		out = append(out, file{path: filepath.Join(dir, e.Name()), run: run, aside: m[2]})
	}
	slices.SortStableFunc(out, func(a, b file) int { return a.run - b.run })
	return out, nil
}

// reserve creates an empty file under the first number above every existing one. Creating it is what reserves the number: of two that try,
// one gets EEXIST and goes on to the next.
func reserve(dir string, after int) (path string, run int, err error) {
	existing, err := files(dir)
	if err != nil {
		return "", 0, err
	}
	run = after + 1
	if n := len(existing); n > 0 {
		run = max(run, existing[n-1].run+1)
	}
	for ; run <= maxRun; run++ {
		path = filepath.Join(dir, FileName(run))
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", 0, err
		}
		return path, run, f.Close()
	}
	return "", 0, fmt.Errorf("%s: all %d run numbers are used", dir, maxRun)
}

// setAside gives a file that cannot be read another name, under which it stays. It takes the file's lock for that, and reports ErrLive if
// somebody else has it.
func setAside(path string, cause error) (Aside, error) {
	f, err := lock(path, unix.LOCK_EX)
	if err != nil {
		return Aside{}, err
	}
	defer f.Close()
	suffix := damaged
	if errors.Is(cause, ErrVersion) {
		suffix = newer
	}
	to := path + "." + suffix
	for n := 2; ; n++ {
		err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		if err == nil {
			return Aside{File: filepath.Base(path), As: filepath.Base(to), Reason: cause.Error()}, nil
		}
		if err != unix.EEXIST {
			return Aside{}, &os.LinkError{Op: "rename", Old: path, New: to, Err: err}
		}
		to = fmt.Sprintf("%s.%s.%d", path, suffix, n)
	}
}

// setAsideUnreadable sets aside what Create can tell at a glance to be unreadable: it looks at the head of each file that nobody is using.
func setAsideUnreadable(dir string) ([]Aside, error) {
	all, err := files(dir)
	if err != nil {
		return nil, err
	}
	var done []Aside
	for _, f := range all {
		if f.aside != "" {
			continue
		}
		cause := glance(f.path)
		if !errors.Is(cause, ErrDamaged) && !errors.Is(cause, ErrVersion) {
			continue
		}
		a, err := setAside(f.path, cause)
		if errors.Is(err, ErrLive) || errors.Is(err, fs.ErrNotExist) {
			continue // somebody else is at it
		}
		if err != nil {
			return done, err
		}
		done = append(done, a)
	}
	return done, nil
}

// glance looks at a file's head and schema.
func glance(path string) error {
	f, err := lock(path, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer f.Close()
	img, err := openImage(f)
	if err != nil {
		return err
	}
	return img.checkSchema()
}

// lock opens a file and locks it without waiting. The lock goes with the descriptor. It reports ErrLive if the file's run has it, and
// ErrUnborn if the file is empty.
func lock(path string, how int) (_ *os.File, err error) {
	opened, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO of that name must not make us wait for its writer
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	// Size before lock: a run that has just created its file must not find it locked by us.
	info, err := opened.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a file", ErrDamaged, path)
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnborn, path)
	}
	err = unix.Flock(int(opened.Fd()), how|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return nil, fmt.Errorf("%w: %s", ErrLive, path)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return opened, nil
}
