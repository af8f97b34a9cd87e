package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Snapshot writes a consistent copy of the file to w, with all that was recorded before the call, and returns its length. What the disk does
// not take within [Options.Hung] is not in the copy; Err then says why. The copy is made in memory first, so a slow w holds up nobody.
func (j *Journal) Snapshot(w io.Writer) (int64, error) {
	j.settle(j.opt.Hung)
	if err := j.Err(); errors.Is(err, ErrDamaged) {
		return 0, err // bbolt has panicked, and may wait for itself
	}
	f, err := memFile(fmt.Sprintf("journal-%d", j.Number()))
	if err != nil {
		return 0, fmt.Errorf("journal: snapshot: %w", err)
	}
	defer f.Close()
	if _, err := j.disk.snapshot(f); err != nil {
		return 0, fmt.Errorf("journal: snapshot of %s: %w", j.path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("journal: snapshot: %w", err)
	}
	n, err := io.Copy(w, f)
	if err != nil {
		return n, fmt.Errorf("journal: send snapshot: %w", err)
	}
	return n, nil
}

// settle waits until what is pending now has been written or has failed, or patience is over.
func (j *Journal) settle(patience time.Duration) {
	answer := make(chan error, 1)
	if !j.whenFlushed(func(err error) { answer <- err }) {
		return
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-answer:
	case <-t.C:
	}
}

// whenFlushed calls done after the next commit. It reports false after Close.
func (j *Journal) whenFlushed(done func(error)) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	j.pend.flushed = append(j.pend.flushed, done)
	poke(j.urgent)
	return true
}

// memFile returns an empty file that has no name and no disk.
func memFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
