package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := create(t, dir, Options{})
	j.SetPredecessor(41)
	j.Record(Move{From: "Starting", To: "Serving", Why: "first start"})
	j.Record(Handoff{ID: "1-1", Role: Predecessor, Trigger: "SIGUSR2"})
	j.Record(Lend{Batch: 1, Sessions: IDs{uint64(id(1, 1)), uint64(id(1, 2))}})
	j.EndHandoff()
	j.Record(Move{From: "Serving", To: "Draining", Why: "SIGTERM"})

	l := sealed(t, j)
	if l.Run.Number != 1 || l.Run.Predecessor != 41 || l.Run.PID != os.Getpid() || l.Run.BootID == "" || l.Run.Version != "v1.2.3" {
		t.Errorf("run: %+v", l.Run)
	}
	want := []Data{
		l.Events[0].Data, // started, compared above
		Move{From: "Starting", To: "Serving", Why: "first start"},
		Handoff{ID: "1-1", Role: Predecessor, Trigger: "SIGUSR2"},
		Lend{Batch: 1, Sessions: IDs{uint64(id(1, 1)), uint64(id(1, 2))}},
		Move{From: "Serving", To: "Draining", Why: "SIGTERM"},
		Sealed{Why: "SIGTERM"},
	}
	var got []Data
	var handoffs []string
	for i, e := range l.Events {
		got = append(got, e.Data)
		handoffs = append(handoffs, e.Handoff)
		if e.Seq != uint64(i+1) || i > 0 && (e.Mono < l.Events[i-1].Mono || e.Prev != l.Events[i-1].Hash) {
			t.Errorf("event %d does not follow: %+v", i+1, e)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"", "", "1-1", "1-1", "", ""}, handoffs); diff != "" {
		t.Errorf("which events belong to the handoff: %s", diff)
	}
	if !l.Sealed || l.Live {
		t.Errorf("sealed %t, live %t", l.Sealed, l.Live)
	}
	seq, head := j.Head()
	if last := l.Last(); last.Seq != seq || last.Hash != head {
		t.Errorf("Head says %d %x, the file's last event is %d %s", seq, head, last.Seq, last.Hash)
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "journal")
	j := create(t, dir, Options{})
	for path, want := range map[string]fs.FileMode{dir: 0o700, j.Path(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

func TestNumbersAreNeverShared(t *testing.T) {
	dir := t.TempDir()
	const runs = 12
	numbers := make([]int, runs)
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			j, err := Create(dir, Run{}, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			numbers[i] = j.Number()
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != i+1 {
			t.Fatalf("numbers %v, want 1 to %d", numbers, runs)
		}
	}
}

func TestReservingIsExclusive(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	times := map[int]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				_, run, err := reserve(dir, 0)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				times[run]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(times) != 400 {
		t.Errorf("400 runs share %d numbers", len(times))
	}
}

func TestNumberIsAboveEveryExistingOne(t *testing.T) {
	for _, c := range []struct {
		existing []string
		want     int
	}{
		{nil, 1},
		{[]string{"000007.db"}, 8},
		{[]string{"000009.db.damaged", "000003.db"}, 10}, // a number that was used stays used
		{[]string{"000009.db.newer.2"}, 10},
		{[]string{"1000000.db"}, 1000001},
		{[]string{"7.db", "000008.db.bak", "000009", "x000010.db", "99999999.db"}, 1}, // not ours
	} {
		dir := t.TempDir()
		for _, name := range c.existing {
			touchFile(t, dir, name, "")
		}
		if j := create(t, dir, Options{}); j.Number() != c.want {
			t.Errorf("beside %v the number is %d, want %d", c.existing, j.Number(), c.want)
		}
	}
}

func TestCreateInAPlaceThatCannotBeWritten(t *testing.T) {
	path := touchFile(t, t.TempDir(), "file", "")
	if j, err := Create(filepath.Join(path, "journal"), Run{}, Options{}); err == nil {
		j.Close()
		t.Error("a journal was created below a file")
	}
}

func TestRecordTrailsByAWindow(t *testing.T) {
	j := create(t, t.TempDir(), Options{})
	before, _ := j.Head()
	j.Record(Move{From: "a", To: "b"})
	if now, _ := j.Head(); now != before {
		t.Log("written already") // a stall; not wrong
	}
	within(t, 5*time.Second, "the event is in the file", func() bool { now, _ := j.Head(); return now == before+1 })
}

// Intents do not wait for the window.
func TestCommitIsAtOnce(t *testing.T) {
	j := create(t, t.TempDir(), Options{Window: time.Hour})
	j.Record(Move{From: "a", To: "b"})
	if err := j.Commit(ctx, Move{From: "b", To: "c"}); err != nil {
		t.Fatal(err)
	}
	if seq, _ := j.Head(); seq != 3 {
		t.Errorf("%d events are in the file, want started and both moves", seq)
	}
}

func TestAfterClose(t *testing.T) {
	j := create(t, t.TempDir(), Options{})
	l := sealed(t, j)
	j.Record(Move{From: "a", To: "b"})
	j.Opened(Session{ID: 1})
	j.SetPredecessor(9)
	if err := j.Commit(ctx, Move{From: "a", To: "b"}); !errors.Is(err, ErrClosed) {
		t.Errorf("Commit = %v, want ErrClosed", err)
	}
	if err := j.Err(); !errors.Is(err, ErrClosed) {
		t.Errorf("Err = %v, want ErrClosed", err)
	}
	if diff := cmp.Diff(l, sealed(t, j)); diff != "" {
		t.Errorf("a finished file has changed: %s", diff)
	}
}

func TestEventThatCannotBeEncoded(t *testing.T) {
	j := create(t, t.TempDir(), Options{})
	if err := j.Commit(ctx, Unknown{Name: "never heard of"}); err == nil {
		t.Error("an event of an unknown kind was committed")
	}
	j.Record(Unknown{Name: "never heard of"})
	if l := sealed(t, j); l.Counters.Lost == 0 || len(l.Events) != 2 {
		t.Errorf("lost %d, events %v", l.Counters.Lost, kindsOf(l))
	}
}

// The caller's slice is read when the event is recorded, and not later.
func TestDataIsNotKept(t *testing.T) {
	j := create(t, t.TempDir(), Options{Window: time.Hour})
	ids := IDs{1, 2, 3}
	j.Record(Lend{Batch: 1, Sessions: ids})
	ids[0], ids[1], ids[2] = 7, 8, 9
	l := sealed(t, j)
	if got := l.Events[1].Data.(Lend).Sessions.String(); got != "0-1..3" {
		t.Errorf("the file has %s", got)
	}
}

func TestSessions(t *testing.T) {
	j := create(t, t.TempDir(), Options{})
	peer := netip.MustParseAddrPort("[2001:db8::1]:4711")
	opened := time.Date(2026, 11, 24, 21, 0, 0, 0, time.UTC)
	flush := func() { j.settle(time.Minute) }

	stays := Session{ID: id(1, 1), Cookie: 99, Peer: peer, Protocol: "ping", Opened: opened}
	moved := Session{ID: id(0, 5), Place: Taken, Protocol: "ping", Opened: opened, Read: 7, Written: 8}
	j.Opened(stays)
	j.Opened(moved)
	j.Opened(Session{ID: id(1, 2), Protocol: "ping", Opened: opened})
	j.Opened(Session{ID: id(1, 3), Protocol: "ping", Opened: opened})
	j.Closed(uint64(id(1, 3)), "end of input", 10, 20) // within the window: never a row
	flush()
	j.Place(Lent, uint64(stays.ID), uint64(moved.ID))
	j.Place(Offered, uint64(moved.ID), uint64(id(1, 77))) // 77 is nobody
	j.Closed(uint64(id(1, 2)), "bad frame", 1, 2)
	j.Closed(uint64(id(1, 2)), "and again", 100, 100)
	flush()
	j.Closed(uint64(id(1, 2)), "and again", 100, 100)
	j.Closed(uint64(id(1, 3)), "and again", 100, 100)
	j.Place(Given, uint64(id(1, 2)))

	l := sealed(t, j)
	stays.Place, moved.Place = Lent, Offered
	if diff := cmp.Diff([]Session{moved, stays}, l.Sessions, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("rows: %s", diff)
	}
	if want := (Counters{Opened: 3, Adopted: 1, Closed: 2, Read: 11, Written: 22}); l.Counters != want {
		t.Errorf("counters %+v, want %+v", l.Counters, want)
	}
	var closed []string
	for _, c := range l.Closed {
		closed = append(closed, fmt.Sprint(c.ID, " ", c.Protocol, " ", c.Reason, " ", c.Read, " ", c.Written, " ", c.Opened.Equal(opened), " ", c.Closed.After(opened)))
	}
	if diff := cmp.Diff([]string{"1-3 ping end of input 10 20 true true", "1-2 ping bad frame 1 2 true true"}, closed); diff != "" {
		t.Errorf("closed: %s", diff)
	}
}

// The file keeps the last ones to end and no more, in whatever way they come and go.
func TestRecentIsARing(t *testing.T) {
	for _, window := range []time.Duration{time.Hour, time.Microsecond} {
		j := create(t, t.TempDir(), Options{Window: window, Recent: 10})
		for i := range 95 {
			s := Session{ID: id(1, i)}
			j.Opened(s)
			if i%7 == 0 {
				j.settle(time.Minute) // so that it becomes a row
			}
			j.Closed(uint64(s.ID), "end", 0, 0)
		}
		l := sealed(t, j)
		if len(l.Closed) != 10 || l.Closed[0].ID != id(1, 85) || l.Closed[9].ID != id(1, 94) {
			t.Errorf("window %v: kept %d, %v", window, len(l.Closed), l.Closed)
		}
		if len(l.Sessions) != 0 || l.Counters.Closed != 95 {
			t.Errorf("window %v: %d rows, %d closed", window, len(l.Sessions), l.Counters.Closed)
		}
	}
}

func TestCommitWhoseCallerHasGoneBefore(t *testing.T) {
	gone, cancel := context.WithCancelCause(ctx)
	why := errors.New("too late")
	cancel(why)
	j := create(t, t.TempDir(), Options{})
	err := j.Commit(gone, Move{From: "a", To: "b"})
	l := sealed(t, j)
	happened := slices.ContainsFunc(l.Events, func(e Event) bool { return e.Kind == "move" })
	void := len(withdrawn(l)) > 0
	if (err == nil) != (happened && !void) || err != nil && !errors.Is(err, why) {
		t.Errorf("Commit = %v, in the file %t, withdrawn %t", err, happened, void)
	}
}
