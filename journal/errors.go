package journal

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// What is wrong with a file.
var (
	// ErrDamaged reports a file that is no journal, or one that is torn. Set aside, it stays for people to look at.
	ErrDamaged = errors.New("journal: file is damaged")
	// ErrVersion reports a file that a newer version of this package wrote.
	ErrVersion = errors.New("journal: file is from a newer version")
	// ErrLive reports a file that its run is still writing.
	ErrLive = errors.New("journal: file is in use by its run")
	// ErrUnborn reports an empty file: its run is just being created, or died in that moment. There is nothing in it to lose.
	ErrUnborn = errors.New("journal: file is still empty")
)

// Why an event is not in the file.
var (
	// ErrClosed reports an event that came after Close.
	ErrClosed = errors.New("journal: closed")
	// ErrFull reports an event for which there was no memory left, because the file could not be written for long. A Gap counts it.
	ErrFull = errors.New("journal: too much is waiting to be written")
	// ErrHung reports a disk that has not answered for [Options.Hung].
	ErrHung = errors.New("journal: the disk does not answer")
)

// explain makes of a file's error one for a sentence that names the file already, and says what to do where that is plain.
func explain(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w; make room there", err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w; it has to be mounted for writing", err)
	}
	return err
}
