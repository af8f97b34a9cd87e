package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Limits say which finished files go. A zero limit is none.
type Limits struct {
	Age   time.Duration // files last written longer ago go
	Bytes int64         // the oldest go until all together are no larger
	Keep  int           // the newest stay in any case; 0 = 2, the two sides of the last handoff; -1 = none
}

// Prune removes the oldest finished files of dir until the limits hold, and returns the names of those removed. It never removes a file
// that its run is writing or somebody is reading, and none that was set aside. With files that could not be removed it goes on, and
// reports them joined.
func Prune(dir string, limits Limits) (removed []string, err error) {
	candidates, total, err := finished(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: prune: %w", err)
	}
	keep := max(cmp.Or(limits.Keep, 2), 0)
	for len(candidates) > keep {
		c := candidates[0]
		candidates = candidates[1:]
		tooOld := limits.Age > 0 && time.Since(c.info.ModTime()) > limits.Age
		tooMuch := limits.Bytes > 0 && total > limits.Bytes
		if !tooOld && !tooMuch {
			continue
		}
		switch rerr := remove(c.path); {
		case rerr == nil:
			removed = append(removed, c.path)
			total -= c.info.Size()
		case !errors.Is(rerr, ErrLive):
			err = errors.Join(err, rerr)
		}
	}
	return removed, err
}

// candidate is a file in its place, live or finished.
type candidate struct {
	file
	info fs.FileInfo
}

// finished lists the files in their place, oldest run first, and their size together. Whether one is live shows when its lock is asked for.
func finished(dir string) (out []candidate, bytes int64, err error) {
	all, err := files(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, f := range all {
		info, err := os.Lstat(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if f.aside == "" {
			out = append(out, candidate{f, info})
			bytes += info.Size()
		}
	}
	return out, bytes, nil
}

// remove unlinks a file while holding its lock, so that it is nobody's. An empty one has no lock to hold: its run died being created.
func remove(path string) error {
	f, err := lock(path, unix.LOCK_EX)
	if errors.Is(err, ErrUnborn) {
		return os.Remove(path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return os.Remove(path)
}
