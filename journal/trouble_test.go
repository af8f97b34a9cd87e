package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// trouble is a real file behind a disk that can be told to fail, hang or crash.
type trouble struct {
	disk
	mu      sync.Mutex
	failure error
	crash   bool
	hang    chan struct{} // closed: go on
	entered chan struct{} // gets a word for each put that hangs
	puts    int
	syncs   int
	unsync  error // what sync fails with
}

func (d *trouble) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	if d.unsync != nil {
		return d.unsync
	}
	return d.disk.sync()
}

func (d *trouble) synced() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

func (d *trouble) put(p *pending) error {
	d.mu.Lock()
	failure, crash, hang := d.failure, d.crash, d.hang
	d.puts++
	d.mu.Unlock()
	if hang != nil {
		d.entered <- struct{}{}
		<-hang
	}
	if crash {
		panic("page 7 already freed")
	}
	if failure != nil {
		return failure
	}
	return d.disk.put(p)
}

func (d *trouble) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure = err
}

// stall makes every put wait until the returned function is called.
func (d *trouble) stall() (resume func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hang := make(chan struct{})
	d.hang, d.entered = hang, make(chan struct{}, 100)
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hang = nil
		close(hang)
	})
}

// troubled makes a journal on such a disk.
func troubled(t interface {
	Helper()
	Fatal(...any)
}, dir string, opt Options) (*Journal, *trouble) {
	t.Helper()
	path, number, err := reserve(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := Run{Number: number}.known()
	opt = opt.withDefaults()
	real, err := createDisk(path, r, opt.Recent)
	if err != nil {
		t.Fatal(err)
	}
	d := &trouble{disk: real}
	return newJournal(path, r, opt, d), d
}

var errFull = fmt.Errorf("write: %w", unix.ENOSPC)

func TestFullDisk(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: time.Millisecond})
	if err := j.Commit(ctx, Move{From: "a", To: "b"}); err != nil || j.Err() != nil {
		t.Fatal(err, j.Err())
	}
	d.fail(errFull)
	j.Opened(Session{ID: id(1, 1)})
	j.Record(Move{From: "b", To: "c", Why: "way back"})
	if err := j.Commit(ctx, Move{From: "c", To: "refused"}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Commit = %v, want ENOSPC", err)
	}
	if err := j.Err(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Err = %v, want ENOSPC", err)
	}
	d.fail(nil)
	within(t, 10*time.Second, "the journal recovers by itself", func() bool { return j.Err() == nil })
	if err := j.Commit(ctx, Move{From: "c", To: "d"}); err != nil {
		t.Error(err)
	}
	l := sealed(t, j)
	var moves []string
	for _, e := range l.Events {
		if m, ok := e.Data.(Move); ok {
			moves = append(moves, m.To)
		}
	}
	if want := []string{"b", "c", "d"}; !slices.Equal(moves, want) {
		t.Errorf("moves in the file %v, want %v: what was recorded stays, what was refused never happened", moves, want)
	}
	if len(l.Sessions) != 1 || l.Counters.Refused != 1 {
		t.Errorf("%d rows, %d refused; want 1 and 1", len(l.Sessions), l.Counters.Refused)
	}
}

// A disk that fails only while somebody intends has to be seen to be well again, although nothing else is to be written.
func TestRecoveryWithNothingToWrite(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: time.Millisecond})
	d.fail(errFull)
	if err := j.Commit(ctx, Move{From: "a", To: "b"}); err == nil {
		t.Fatal("committed to a full disk")
	}
	for range 50 { // it does not seem well in between
		if j.Err() == nil {
			t.Fatal("Err is nil while the disk is full")
		}
		time.Sleep(time.Millisecond)
	}
	d.fail(nil)
	within(t, 10*time.Second, "Err is nil again", func() bool { return j.Err() == nil })
	sealed(t, j)
}

// While the disk does not answer, nobody but those who wait for it waits, memory is bounded, and Err says why.
func TestHungDisk(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: time.Millisecond, Hung: 20 * time.Millisecond, Events: 100, Recent: 10})
	resume := d.stall()
	defer resume()
	j.Record(Move{From: "a", To: "b"})
	<-d.entered

	prompt := make(chan struct{})
	go func() {
		defer close(prompt)
		for i := range 10_000 {
			j.Record(Move{From: "b", To: "b"})
			j.Opened(Session{ID: id(1, i)})
			j.Place(Lent, uint64(id(1, i)))
			j.Closed(uint64(id(1, i)), "end", 1, 1)
		}
		j.SetPredecessor(3)
		j.EndHandoff()
		j.Head()
	}()
	select {
	case <-prompt:
	case <-time.After(10 * time.Second):
		t.Fatal("somebody waits for the disk")
	}
	within(t, 5*time.Second, "Err says that the disk hangs", func() bool { return errors.Is(j.Err(), ErrHung) })

	j.mu.Lock()
	events, lost, recent, rows := len(j.pend.events), j.pend.lost, len(j.pend.recent), len(j.pend.opened)+len(j.pend.ended)+len(j.pend.places)
	j.mu.Unlock()
	if events != 100 || lost != 9_900 || recent > 20 || rows != 0 {
		t.Errorf("waiting: %d events (%d lost), %d recent, %d rows", events, lost, recent, rows)
	}

	soon, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := j.Commit(soon, Move{From: "b", To: "c"}); !errors.Is(err, ErrFull) {
		t.Errorf("Commit with a full queue = %v, want ErrFull", err)
	}
	resume()
	within(t, 5*time.Second, "Err is nil again", func() bool { return j.Err() == nil })
	l := sealed(t, j)
	gap, ok := l.Events[len(l.Events)-2].Data.(Gap)
	if !ok || gap.Lost != 9_901 || l.Counters.Lost != 9_901 || l.Counters.Closed != 10_000 {
		t.Errorf("events end with %v; counters %+v", kindsOf(l)[len(l.Events)-3:], l.Counters)
	}
}

// An event whose Commit has given up while it was being written is taken back.
func TestCommitGivesUpWhileWriting(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: time.Millisecond})
	resume := d.stall()
	defer resume()
	soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := j.Commit(soon, Move{From: "a", To: "b"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Commit = %v", err)
	}
	// This one never gets as far as being written: it is simply gone.
	soon2, cancel2 := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel2()
	if err := j.Commit(soon2, Move{From: "a", To: "c"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Commit = %v", err)
	}
	resume()
	l := sealed(t, j)
	if want := []string{"started", "move", "withdrawn", "sealed"}; !slices.Equal(kindsOf(l), want) {
		t.Fatalf("events %v, want %v", kindsOf(l), want)
	}
	if w := l.Events[2].Data.(Withdrawn); w.Seq != 2 {
		t.Errorf("withdraws event %d, want 2", w.Seq)
	}
	if tl := Replay([]RunLog{l}, func(from, to string) error { return errors.New("illegal") }); tl.Checked.Moves != 0 || len(tl.Problems) != 0 {
		t.Errorf("replay counts the move that did not happen: %+v, %v", tl.Checked, tl.Problems)
	}
}

// A batch that failed is one with what came later: the last word on each session stands.
func TestFailedBatchAndWhatCameLater(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: time.Millisecond})
	j.Opened(Session{ID: id(1, 1)})
	j.settle(time.Minute)
	d.fail(errFull)
	j.Opened(Session{ID: id(1, 2)})
	j.Opened(Session{ID: id(1, 3)})
	j.Place(Lent, uint64(id(1, 1)), uint64(id(1, 2)))
	j.settle(time.Minute) // fails
	j.Closed(uint64(id(1, 2)), "end", 5, 6)
	j.Place(Given, uint64(id(1, 1)), uint64(id(1, 3)))
	j.settle(time.Minute) // fails
	j.Closed(uint64(id(1, 1)), "end", 7, 8)
	d.fail(nil)
	l := sealed(t, j)
	if len(l.Sessions) != 1 || l.Sessions[0].ID != id(1, 3) || l.Sessions[0].Place != Given {
		t.Errorf("rows %+v, want 1-3, given", l.Sessions)
	}
	if want := (Counters{Opened: 3, Closed: 2, Read: 12, Written: 14}); l.Counters != want {
		t.Errorf("counters %+v, want %+v", l.Counters, want)
	}
}

// A panic in bbolt costs the journal and not the server.
func TestCrashingDisk(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: time.Millisecond, Close: time.Minute})
	d.mu.Lock()
	d.crash = true
	d.mu.Unlock()
	if err := j.Commit(ctx, Move{From: "a", To: "b"}); !errors.Is(err, ErrDamaged) {
		t.Errorf("Commit = %v, want ErrDamaged", err)
	}
	d.mu.Lock()
	puts := d.puts
	d.mu.Unlock()
	if err := j.Commit(ctx, Move{From: "a", To: "b"}); !errors.Is(err, ErrDamaged) {
		t.Errorf("Commit = %v, want ErrDamaged for good", err)
	}
	if _, err := j.Snapshot(io.Discard); !errors.Is(err, ErrDamaged) {
		t.Errorf("Snapshot = %v, want ErrDamaged", err)
	}
	if err := j.Close(); !errors.Is(err, ErrDamaged) {
		t.Errorf("Close = %v, want ErrDamaged", err)
	}
	if d.puts != puts {
		t.Error("the file was touched again")
	}
	_ = d.disk.close()
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: time.Millisecond, Close: 20 * time.Millisecond})
	resume := d.stall()
	j.Record(Move{From: "a", To: "b"})
	if err := j.Close(); !errors.Is(err, ErrHung) {
		t.Errorf("Close = %v, want ErrHung", err)
	}
	resume()
	<-j.ended // so that the goroutines are seen to end
	if err := j.Close(); err != nil {
		t.Errorf("Close once more, with a disk that works again: %v", err)
	}
}

// done is called exactly once, whatever the disk does.
func TestIntendAnswersOnce(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: 100 * time.Microsecond, Events: 50})
	const n = 500
	var mu sync.Mutex
	answers := map[int][]error{}
	for i := range n {
		switch i % 20 {
		case 5:
			d.fail(errFull)
		case 15:
			d.fail(nil)
		}
		j.Intend(Fence{PID: i}, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			answers[i] = append(answers[i], err)
		})
	}
	d.fail(nil)
	l := sealed(t, j)
	within(t, 5*time.Second, "all have an answer", func() bool { mu.Lock(); defer mu.Unlock(); return len(answers) == n })
	written := map[int]bool{}
	for _, e := range l.Events {
		if f, ok := e.Data.(Fence); ok {
			written[f.PID] = true
		}
	}
	for i, a := range answers {
		if len(a) != 1 || (a[0] == nil) != written[i] {
			t.Errorf("intent %d: answers %v, in the file %t", i, a, written[i])
		}
	}
}

// An intent that came while a batch was failing, and finds no room beside what is left of that, is answered too.
func TestIntendThatFindsNoRoom(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: time.Millisecond, Events: 2})
	resume := d.stall()
	d.fail(errFull)
	j.Record(Fence{PID: 1})
	j.Record(Fence{PID: 2})
	<-d.entered
	answer := make(chan error, 2)
	j.Intend(Fence{PID: 3}, func(err error) { answer <- err })
	resume()
	select {
	case err := <-answer:
		if err == nil {
			t.Error("the full disk has taken it")
		}
	case <-time.After(5 * time.Second):
		t.Error("no answer")
	}
	d.fail(nil)
	sealed(t, j)
}

// The file is forced to the device when it is quiet, when a handoff has ended and at the end, and not for each commit.
func TestSync(t *testing.T) {
	t.Run("not for a commit", func(t *testing.T) {
		j, d := troubled(t, t.TempDir(), Options{Quiet: time.Hour})
		for range 20 {
			if err := j.Commit(ctx, Fence{PID: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if n := d.synced(); n != 0 {
			t.Errorf("%d syncs for 20 commits", n)
		}
		sealed(t, j)
		if n := d.synced(); n == 0 {
			t.Error("Close does not sync")
		}
	})
	t.Run("when quiet", func(t *testing.T) {
		j, d := troubled(t, t.TempDir(), Options{Quiet: 10 * time.Millisecond})
		if err := j.Commit(ctx, Fence{PID: 1}); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "a sync", func() bool { return d.synced() > 0 })
		sealed(t, j)
	})
	for _, end := range []Data{Done{}, Abort{}, Bye{}} {
		t.Run("after "+end.Kind(), func(t *testing.T) {
			j, d := troubled(t, t.TempDir(), Options{Quiet: time.Hour, Window: time.Millisecond})
			j.Record(end)
			within(t, 5*time.Second, "a sync", func() bool { return d.synced() > 0 })
			sealed(t, j)
		})
	}
	t.Run("failing", func(t *testing.T) {
		j, d := troubled(t, t.TempDir(), Options{Quiet: time.Millisecond})
		d.mu.Lock()
		d.unsync = unix.EIO
		d.mu.Unlock()
		if err := j.Commit(ctx, Fence{PID: 1}); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "Err says so", func() bool { return errors.Is(j.Err(), unix.EIO) })
		if err := j.Close(); !errors.Is(err, unix.EIO) {
			t.Errorf("Close = %v, want EIO", err)
		}
	})
}

func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	j := create(t, dir, Options{Window: time.Hour})
	j.Record(Move{From: "a", To: "b"})
	j.Opened(Session{ID: id(1, 1)})
	var b bytes.Buffer
	n, err := j.Snapshot(&b)
	if err != nil || n != int64(b.Len()) || n == 0 {
		t.Fatalf("Snapshot = %d, %v; wrote %d", n, err, b.Len())
	}
	l, err := readStream(&b)
	if err != nil || l.ChainErr != nil || !slices.Equal(kindsOf(l), []string{"started", "move"}) || len(l.Sessions) != 1 || l.Sealed {
		t.Errorf("%v, %v: %v", err, l.ChainErr, kindsOf(l))
	}
}

// Whoever receives a snapshot may be slow: commits do not wait, though the file grows meanwhile.
func TestSnapshotToASlowReader(t *testing.T) {
	j := create(t, t.TempDir(), Options{})
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() { _, err := j.Snapshot(w); w.Close(); sent <- err }()
	one := make([]byte, 1)
	if _, err := r.Read(one); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		j.Opened(Session{ID: id(1, i), Protocol: "ping"})
	}
	soon, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := j.Commit(soon, Move{From: "a", To: "b"}); err != nil {
		t.Errorf("Commit beside a slow snapshot: %v", err)
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if _, err := readStream(bytes.NewReader(append(one, rest...))); err != nil {
		t.Error(err)
	}
}

func TestSnapshotOfAFullDisk(t *testing.T) {
	j, d := troubled(t, t.TempDir(), Options{Window: time.Millisecond})
	d.fail(errFull)
	j.Record(Move{From: "a", To: "b"})
	var b bytes.Buffer
	if _, err := j.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	if l, err := readStream(&b); err != nil || len(l.Events) != 1 {
		t.Errorf("%v, %v", kindsOf(l), err)
	}
	d.fail(nil)
	sealed(t, j)
}

// Against a model: whatever comes and goes, over a disk that fails now and then, the file says in the end what the model does.
func TestAnyHistory(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		j, d := troubled(t, dir, Options{Window: 100 * time.Microsecond})
		defer os.Remove(j.Path())
		defer j.Close()
		live := map[ID]Place{}
		var opened, closed, read uint64
		var events []int
		for step := range rapid.IntRange(0, 60).Draw(t, "steps") {
			session := id(1, rapid.IntRange(0, 9).Draw(t, "session")+100*step/30) // ids are not used again once they are old
			switch rapid.SampledFrom([]string{"open", "open", "close", "place", "event", "intent", "flush", "fail", "mend"}).Draw(t, "what") {
			case "open":
				if _, ok := live[session]; !ok {
					session = id(1, 1000+step)
					j.Opened(Session{ID: session})
					live[session] = Own
					opened++
				}
			case "close":
				for s := range live {
					j.Closed(uint64(s), "end", 3, 0)
					delete(live, s)
					closed++
					read += 3
					break
				}
			case "place":
				p := Place(rapid.IntRange(0, 4).Draw(t, "place"))
				for s := range live {
					j.Place(p, uint64(s))
					live[s] = p
					break
				}
			case "event":
				j.Record(Fence{PID: step})
				events = append(events, step)
			case "intent":
				if j.Commit(ctx, Fence{PID: step}) == nil {
					events = append(events, step)
				}
			case "flush":
				j.settle(time.Minute)
			case "fail":
				d.fail(errFull)
			case "mend":
				d.fail(nil)
			}
		}
		d.fail(nil)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := Read(j.Path())
		if err != nil || l.ChainErr != nil || !l.Sealed {
			t.Fatal(err, l.ChainErr, l.Sealed)
		}
		if c := l.Counters; c.Opened != opened || c.Closed != closed || c.Read != read || uint64(len(l.Closed)) != closed {
			t.Fatalf("counters %+v and %d closed; want opened %d, closed %d, read %d", c, len(l.Closed), opened, closed, read)
		}
		rows := map[ID]Place{}
		for _, s := range l.Sessions {
			rows[s.ID] = s.Place
		}
		if fmt.Sprint(rows) != fmt.Sprint(live) {
			t.Fatalf("rows %v, want %v", rows, live)
		}
		var got []int
		for _, e := range l.Events {
			if f, ok := e.Data.(Fence); ok {
				got = append(got, f.PID)
			}
		}
		if !slices.Equal(got, events) {
			t.Fatalf("events %v, want %v", got, events)
		}
	})
}
