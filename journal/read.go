package journal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// ErrChain reports events that do not follow each other: one was changed, dropped or moved after it was written.
var ErrChain = errors.New("journal: chain is broken")

// A RunLog is what one run's file says.
type RunLog struct {
	File     string          `json:"file"`
	Run      Run             `json:"run"`
	Events   []Event         `json:"events"`
	Sessions []Session       `json:"sessions"`
	Closed   []ClosedSession `json:"closed"` // the last to end, oldest first
	Counters Counters        `json:"counters"`

	Live   bool `json:"live,omitempty"`   // it is a snapshot of a run that goes on
	Sealed bool `json:"sealed,omitempty"` // the run ended on purpose; neither live nor sealed: it died

	ChainErr error  `json:"-"`               // ErrChain and where; the events before it are as they were written
	Err      error  `json:"-"`               // why there is nothing but File and Run.Number
	Aside    string `json:"aside,omitempty"` // the name under which an unreadable file is now
}

// Last is the file's last event; the zero Event if it has none.
func (l RunLog) Last() Event {
	if len(l.Events) == 0 {
		return Event{}
	}
	return l.Events[len(l.Events)-1]
}

// Read reads a file that no run is writing. It reports ErrLive if one is, ErrUnborn if the file is empty, ErrDamaged or ErrVersion if it
// cannot be read. The file is not changed, whatever is wrong with it.
func Read(path string) (RunLog, error) {
	f, err := lock(path, unix.LOCK_SH)
	if err != nil {
		return RunLog{}, err
	}
	defer f.Close()
	img, err := openImage(f)
	if err != nil {
		return RunLog{}, err
	}
	if err := errors.Join(img.checkSchema(), img.check()); err != nil {
		return RunLog{}, fmt.Errorf("%s: %w", path, err)
	}
	// The shared lock is ours, so no run can have the exclusive one.
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Second, NoStatistics: true})
	if err != nil {
		return RunLog{}, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	defer db.Close()
	l := RunLog{File: path}
	if err := db.View(l.read); err != nil {
		return RunLog{}, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// IsSealed reports whether a file ends as one does whose run ended on purpose. It reads no more of it than the events, and does not follow their
// chain. Its errors are those of Read, as far as it looks.
func IsSealed(path string) (bool, error) {
	f, err := lock(path, unix.LOCK_SH)
	if err != nil {
		return false, err
	}
	defer f.Close()
	img, err := openImage(f)
	if err != nil {
		return false, err
	}
	last, err := img.lastEvent()
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return last.Kind == Sealed{}.Kind(), nil
}

// ReadAll reads the journals of dir, oldest run first. For a file that its run is still writing it asks live, which returns a Snapshot of
// that run's; a nil live, or an error of its, leaves the log with ErrLive. A file that cannot be read is set aside under another name, and
// its log has Err and Aside. The error is of dir itself.
func ReadAll(dir string, live func(run int) (io.ReadCloser, error)) ([]RunLog, error) {
	all, err := files(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var logs []RunLog
	for _, f := range all {
		l := readOne(f, live)
		if errors.Is(l.Err, ErrUnborn) || errors.Is(l.Err, fs.ErrNotExist) {
			continue // nothing was written yet, or it was pruned meanwhile
		}
		if l.Run.Number == 0 {
			l.Run.Number = f.run
		}
		l.File = f.path
		logs = append(logs, l)
	}
	return logs, nil
}

// readOne reads a file in the way that its condition asks for.
func readOne(f file, live func(run int) (io.ReadCloser, error)) RunLog {
	if f.aside != "" {
		return RunLog{Err: f.cause(), Aside: f.path}
	}
	l, err := Read(f.path)
	if errors.Is(err, ErrLive) {
		l, err = readLive(f, live)
	} else if errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion) {
		if a, aerr := setAside(f.path, err); aerr == nil {
			l.Aside = a.As
		}
	}
	l.Err = err
	return l
}

// cause is why a file was set aside in the past.
func (f file) cause() error {
	if f.aside == newer {
		return fmt.Errorf("%w: %s", ErrVersion, f.path)
	}
	return fmt.Errorf("%w: %s", ErrDamaged, f.path)
}

// readLive reads a snapshot. A run that cannot be asked may have just ended: then its file can be read after all.
func readLive(f file, live func(run int) (io.ReadCloser, error)) (RunLog, error) {
	if live == nil {
		return RunLog{}, fmt.Errorf("%w: %s", ErrLive, f.path)
	}
	r, err := live(f.run)
	if err != nil {
		if l, rerr := Read(f.path); !errors.Is(rerr, ErrLive) {
			return l, rerr
		}
		return RunLog{}, fmt.Errorf("%w: %s: %w", ErrLive, f.path, err)
	}
	defer r.Close()
	l, err := readStream(r)
	l.Live = err == nil && !l.Sealed
	return l, err
}

// readStream reads a snapshot by way of a file without a name: bbolt has to map it.
func readStream(r io.Reader) (RunLog, error) {
	f, err := memFile("journal-snapshot")
	if err != nil {
		return RunLog{}, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return RunLog{}, fmt.Errorf("journal: receive snapshot: %w", err)
	}
	l, err := Read(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()))
	if errors.Is(err, ErrUnborn) {
		err = fmt.Errorf("%w: the snapshot is empty", ErrDamaged)
	}
	return l, err
}

// read fills l from a file that has been checked.
func (l *RunLog) read(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketRun, bucketEvents, bucketSessions, bucketClosed, bucketCounters} {
		if tx.Bucket(name) == nil {
			return torn("bucket %q is missing", name)
		}
	}
	if err := json.Unmarshal(tx.Bucket(bucketRun).Get(keyRun), &l.Run); err != nil {
		return torn("run: %v", err)
	}
	l.readEvents(tx.Bucket(bucketEvents))
	l.Counters = getCounters(tx.Bucket(bucketCounters))
	if err := tx.Bucket(bucketSessions).ForEach(l.readSession); err != nil {
		return err
	}
	return tx.Bucket(bucketClosed).ForEach(l.readClosed)
}

// readEvents follows the chain as far as it holds.
func (l *RunLog) readEvents(b *bbolt.Bucket) {
	var prev Event
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		e, err := follow(prev, k, v)
		if err != nil {
			l.ChainErr = fmt.Errorf("%w at event %d: %w", ErrChain, prev.Seq+1, err)
			return
		}
		l.Events = append(l.Events, e)
		prev = e
	}
	if prev.Seq == 0 {
		l.ChainErr = fmt.Errorf("%w: there is no event", ErrChain)
	}
	l.Sealed = prev.Kind == Sealed{}.Kind()
}

// follow decodes an event and says whether it is the next one after prev.
func follow(prev Event, k, v []byte) (Event, error) {
	e, err := decodeEvent(v)
	if err != nil {
		return e, err
	}
	if len(k) != 8 || binary.BigEndian.Uint64(k) != e.Seq || e.Seq != prev.Seq+1 {
		return e, fmt.Errorf("event %d is at %x", e.Seq, k)
	}
	if e.Prev != prev.Hash {
		return e, fmt.Errorf("it names another event before it than event %d", prev.Seq)
	}
	return e, nil
}

func (l *RunLog) readSession(k, v []byte) error {
	if len(k) != 8 {
		return torn("session key %x", k)
	}
	s, err := decodeSession(ID(binary.BigEndian.Uint64(k)), v)
	l.Sessions = append(l.Sessions, s)
	return err
}

func (l *RunLog) readClosed(k, v []byte) error {
	var c ClosedSession
	if err := json.Unmarshal(v, &c); err != nil {
		return torn("closed session %x: %v", k, err)
	}
	l.Closed = append(l.Closed, c)
	return nil
}
