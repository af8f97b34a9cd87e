package journal

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// disk is what a Journal needs of its file. The writer alone calls put and close; sync and snapshot may run beside put.
type disk interface {
	put(*pending) error               // in one transaction; sets the seq of the events
	last() (seq uint64, head Hash)    // the event that the next one follows
	sync() error                      // forces what was put to the device
	snapshot(*os.File) (int64, error) // writes a consistent copy
	close() error
}

// boltDisk is the disk of every journal but those of some tests.
type boltDisk struct {
	*store
	file *os.File // a descriptor of its own, so that sync needs nothing of bbolt's
}

// createDisk fills the empty file at path. If that fails, the file is gone.
func createDisk(path string, r Run, recent int) (d *boltDisk, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	s, err := openStore(path, recent)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.db.Close())
		}
	}()
	if err := s.found(r); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &boltDisk{store: s, file: f}, nil
}

func (d *boltDisk) last() (uint64, Hash) { return d.seq, d.head }

func (d *boltDisk) sync() error { return unix.Fdatasync(int(d.file.Fd())) }

func (d *boltDisk) snapshot(to *os.File) (n int64, err error) {
	err = d.db.View(func(tx *bbolt.Tx) error {
		n, err = tx.WriteTo(to)
		return err
	})
	return n, err
}

func (d *boltDisk) close() error {
	if err := errors.Join(d.db.Close(), d.file.Close()); err != nil {
		return fmt.Errorf("journal: close: %w", err)
	}
	return nil
}
