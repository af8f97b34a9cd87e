package conn

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// twoViews returns the slate of a giver and of a receiver.
func twoViews(t *testing.T, slots int) (mine, theirs *Slate) {
	t.Helper()
	mine, err := NewSlate(slots)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(uintptr(mine.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = OpenSlate(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mine.Close(); theirs.Close() })
	return mine, theirs
}

// What one process puts into a slot, the other finds there, or is told that it does not fit.
func TestSlateRoundTrip(t *testing.T) {
	mine, theirs := twoViews(t, 4)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int32Range(0, 3).Draw(t, "slot")
		id := ID(rapid.Uint64Min(1).Draw(t, "id"))
		want := mark{
			proto: rapid.StringN(0, 20, 40).Draw(t, "proto"), version: rapid.IntRange(-1, 1<<30).Draw(t, "version"),
			read: rapid.Uint64().Draw(t, "read"), written: rapid.Uint64().Draw(t, "written"), opened: rapid.Int64().Draw(t, "opened"),
			flags: Flags(rapid.IntRange(0, 15).Draw(t, "flags")), unsent: uint32(rapid.IntRange(0, 1<<20).Draw(t, "unsent")),
			in: rapid.SliceOfN(rapid.Byte(), 0, 150).Draw(t, "in"), saved: rapid.SliceOfN(rapid.Byte(), 0, 150).Draw(t, "saved"),
		}
		s := mine.slot(n)
		s.begin()
		s.put(id, want)
		s.putOutput(want.written, int(want.unsent))
		s.end()
		got, err := theirs.slot(n).look(id)
		if fits := len(want.proto)+len(want.in)+len(want.saved) <= slateData; (err == nil) != fits {
			t.Fatalf("%v, though it fits: %v", err, fits)
		}
		if err != nil {
			return
		}
		if got.proto != want.proto || got.version != want.version || got.read != want.read || got.written != want.written ||
			got.opened != want.opened || got.flags != want.flags || got.unsent != want.unsent ||
			!bytes.Equal(got.in, want.in) || !bytes.Equal(got.saved, want.saved) {
			t.Fatalf("put %+v, found %+v", want, got)
		}
		if _, err := theirs.slot(n).look(id + 1); err == nil {
			t.Fatal("another session's slot was read as ours")
		}
	})
}

// A writer that died in the middle of a turn leaves a slot that says nothing, wherever in the turn it was.
func TestSlateTorn(t *testing.T) {
	mine, theirs := twoViews(t, 1)
	s := mine.slot(0)
	m := mark{proto: "ping", read: 4}
	for name, upTo := range map[string]int{"begun": 1, "half put": 2, "all put": 3} {
		s.begin()
		s.put(1, m)
		s.putOutput(4, 0)
		s.end()
		if _, err := theirs.slot(0).look(1); err != nil {
			t.Fatal(err)
		}
		for i, step := range []func(){s.begin, func() { s.put(1, m) }, func() { s.putOutput(8, 0) }} {
			if i < upTo {
				step()
			}
		}
		if _, err := theirs.slot(0).look(1); !errors.Is(err, errTorn) {
			t.Errorf("%s: %v, want errTorn", name, err)
		}
		s.end()
	}
	if _, err := (&slateSlot{}).look(1); err == nil {
		t.Error("a slot that was never written says something")
	}
}

func TestSlateSlots(t *testing.T) {
	mine, theirs := twoViews(t, 2)
	if a, b, c := mine.take(), mine.take(), mine.take(); a != 0 || b != 1 || c != -1 {
		t.Errorf("took %d, %d, %d; want 0, 1, -1", a, b, c)
	}
	for _, n := range []int32{-1, 2, 1 << 30} { // as a peer may send them
		if theirs.slot(n) != nil {
			t.Errorf("there is a slot %d", n)
		}
	}
}

// What is not a slate, or could be made shorter under our feet, is refused and closed.
func TestOpenSlateRefuses(t *testing.T) {
	memfd := func(size int64, seals int) int {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		unix.Ftruncate(fd, size)
		unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
		return fd
	}
	pipe := make([]int, 2)
	if err := unix.Pipe2(pipe, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	for name, fd := range map[string]int{
		"no seal": memfd(slateSize, 0), "empty": memfd(0, unix.F_SEAL_SHRINK), "odd size": memfd(slateSize+1, unix.F_SEAL_SHRINK), "a pipe": pipe[0],
	} {
		if s, err := OpenSlate(fd); err == nil {
			t.Errorf("%s: opened", name)
			s.Close()
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("%s: the descriptor was not closed", name)
		}
	}
}

// What a turn pays for being noted on the slate, beside one that is not: the notes alone, without the system calls of a turn.
func BenchmarkSlate(b *testing.B) {
	mine, err := NewSlate(1)
	if err != nil {
		b.Fatal(err)
	}
	defer mine.Close()
	p := &Protocol{Name: "ping"}
	s := &Server{slateVersions: map[string]int{}}
	for name, slot := range map[string]*slateSlot{"off": nil, "on": mine.slot(0)} {
		b.Run(name, func(b *testing.B) {
			c := &Conn{proto: p, loop: &loop{srv: s}, id: 1, slate: slot}
			b.ReportAllocs()
			for b.Loop() {
				c.mu.Lock()
				c.beginTurn()
				c.read += 4
				c.endTurn()
				c.mu.Unlock()
			}
		})
	}
}
