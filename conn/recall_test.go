package conn_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"baton/conn"

	"golang.org/x/sys/unix"
)

// slated has two servers share a slate.
func slated(t *testing.T, a, b *conn.Server) {
	t.Helper()
	versions, err := a.Negotiate(b.StateVersions())
	if err != nil {
		t.Fatal(err)
	}
	mine, err := conn.NewSlate(100)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(uintptr(mine.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := conn.OpenSlate(fd)
	if err != nil {
		t.Fatal(err)
	}
	a.UseSlate(mine, versions)
	b.UseSlate(theirs, versions)
	t.Cleanup(func() {
		a.UseSlate(nil, nil)
		b.UseSlate(nil, nil)
		mine.Close()
		theirs.Close()
	})
}

func one(t *testing.T, verdicts []conn.Verdict) conn.Verdict {
	t.Helper()
	if len(verdicts) != 1 {
		t.Fatalf("%d verdicts, want 1", len(verdicts))
	}
	return verdicts[0]
}

// The successor serves a session, comes to rest with half a frame read, and dies: the session goes on in the predecessor.
func TestRecallFromSlate(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
	slated(t, a, b)
	c := dial(t, listen(t, a, "lines"))
	send(t, c, "one\ntw")
	expect(t, c, "1 one\n")
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	send(t, c, "o\nthr")
	expect(t, c, "2 two\n")
	send(t, c, "e")
	settle(t, b, ids[0], 12) // "one\ntwo\nthre"
	b.Leave()                // what a death does: descriptors are closed, nothing else
	if v := one(t, a.Recall(ids)); !v.Kept || v.By != "slate" {
		t.Fatalf("verdict: %+v", v)
	}
	send(t, c, "e\n")
	expect(t, c, "3 three\n")
	if id := a.IDs()[0]; id != ids[0] {
		t.Errorf("session is called %v now", id)
	}
}

// settle waits until the kernel says that so many bytes were read.
func settle(t *testing.T, s *conn.Server, id conn.ID, read uint64) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		w, err := s.Witness(id)
		if err == nil && w.Read == read {
			time.Sleep(2 * time.Millisecond) // and the turn has ended
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, %v: want %d bytes read", w, err, read)
		}
	}
}

// The successor dies before it did anything with a session whose state is too large for the slate: the offered state is proof.
func TestRecallFromState(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1, HighWater: 1 << 20})
	b, _ := start(t, conn.Config{Run: 2, HighWater: 1 << 20})
	slated(t, a, b)
	c := dial(t, listen(t, a, "ping"))
	const size = 12 << 20
	go func() {
		io.Copy(c, &repeat{"ping", size})
		c.CloseWrite()
	}()
	waitStuck(t, a)
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	lates := a.Give(ids) // GIVE was said, and nobody heard it
	if len(lates) > 0 {
		t.Errorf("late output: %v", lates)
	}
	b.Drop(ids)
	if v := one(t, a.Recall(ids)); !v.Kept || v.By != "state" {
		t.Fatalf("verdict: %+v", v)
	}
	if n, err := io.Copy(io.Discard, &checker{t, c}); err != nil || n != size {
		t.Errorf("got %d bytes, %v; want %d", n, err, size)
	}
}

// waitStuck waits until a session of s has output that its client does not take.
func waitStuck(t *testing.T, s *conn.Server) {
	t.Helper()
	var last conn.Witness
	for still := 0; still < 20; time.Sleep(5 * time.Millisecond) {
		ids := s.IDs()
		if len(ids) == 0 {
			continue
		}
		w, err := s.Witness(ids[0])
		if err != nil {
			t.Fatal(err)
		}
		if still++; w != last || w.Read == 0 {
			still, last = 0, w
		}
	}
}

// The successor dies with a session in an unknown state: it is closed, with both counts in the reason.
func TestRecallRefusesToGuess(t *testing.T) {
	for name, tt := range map[string]struct {
		harm   func(t *testing.T, fd int, c io.Writer)
		reason string
	}{
		"read on": {func(t *testing.T, fd int, c io.Writer) {
			io.WriteString(c, "ping")
			buf := make([]byte, 4)
			for n := 0; n < 4; time.Sleep(time.Millisecond) {
				if m, err := unix.Read(fd, buf[n:]); err == nil {
					n += m
				}
			}
		}, "read 4 and written 0, but the slate says 0 and 0"},
		"written on": {func(t *testing.T, fd int, c io.Writer) { unix.Write(fd, []byte("pon")) },
			"read 0 and written 3, but the slate says 0 and 0"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := start(t, conn.Config{Run: 1})
			b, _ := start(t, conn.Config{Run: 2})
			slated(t, a, b)
			c := dial(t, listen(t, a, "ping"))
			waitLen(t, a, 1)
			loans := a.Lend(a.IDs())
			ids := []conn.ID{loans[0].ID}
			fd, err := unix.FcntlInt(uintptr(loans[0].FD), unix.F_DUPFD_CLOEXEC, 0) // as if we were the successor, and died in mid-turn
			if err != nil {
				t.Fatal(err)
			}
			freeze(t, a, ids, nil)
			a.Give(ids)
			a.Detach(ids)
			tt.harm(t, fd, c)
			unix.Close(fd)
			v := one(t, a.Recall(ids))
			if v.Kept || v.Reason != tt.reason && v.Reason != fmt.Sprint("conn: ", tt.reason) {
				t.Errorf("verdict: %+v", v)
			}
			if _, err := io.ReadAll(c); err == nil && name == "read on" {
				t.Error("the client was not told")
			}
			if a.Len() != 0 {
				t.Error("it is served all the same")
			}
		})
	}
}

// The predecessor dies: the successor keeps what was lent, what was taken, and what was neither of both cannot be proved.
func TestRescue(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
	slated(t, a, b)
	addr := listen(t, a, "lines")
	lentOnly, taken := dial(t, addr), dial(t, addr)
	send(t, lentOnly, "one\ntw")
	expect(t, lentOnly, "1 one\n")
	send(t, taken, "x\n")
	expect(t, taken, "1 x\n")
	ids := lend(t, a, b)
	send(t, lentOnly, "o\n") // served by the predecessor after the lend
	expect(t, lentOnly, "2 two\n")
	peer := taken.LocalAddr().String()
	for _, id := range ids {
		if a.Get(id).Peer().String() == peer {
			offer(t, a, b, []conn.ID{id})
		}
	}
	time.Sleep(2 * time.Millisecond)
	a.Leave()
	for _, v := range b.Rescue(ids) {
		if !v.Kept {
			t.Errorf("verdict: %+v", v)
		}
	}
	send(t, lentOnly, "three\n")
	expect(t, lentOnly, "3 three\n")
	send(t, taken, "y\n")
	expect(t, taken, "2 y\n")
	for _, id := range b.IDs() {
		if p := b.Get(id).Peer().String(); p != peer && p != lentOnly.LocalAddr().String() {
			t.Errorf("session %v has peer %s", id, p)
		}
	}
}

// A session was given with so much output that it was not read any more. The successor has sent all of it when it dies: the session is read
// again.
func TestRecallReadsWhatWasHeldBack(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	slated(t, a, b)
	c := dial(t, listen(t, a, "ping"))
	const size = 16 << 20
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, &repeat{"ping", size})
		sent <- err
	}()
	waitStuck(t, a)
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	if n, err := io.CopyN(io.Discard, &checker{t, c}, size); err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	settle(t, b, ids[0], size)
	b.Leave()
	if v := one(t, a.Recall(ids)); !v.Kept || v.By != "slate" {
		t.Fatalf("verdict: %+v", v)
	}
	c.SetDeadline(time.Now().Add(3 * time.Second))
	send(t, c, "ping")
	expect(t, c, "pong")
}

// A session that comes back from the dead has its timeouts.
func TestRecallKeepsTimeouts(t *testing.T) {
	const timeout = 300 * time.Millisecond
	a, closed := start(t, conn.Config{Run: 1, ReadTimeout: timeout})
	b, _ := start(t, conn.Config{Run: 2})
	slated(t, a, b)
	c := dial(t, listen(t, a, "ping"))
	send(t, c, "ping")
	expect(t, c, "pong")
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	send(t, c, "ping")
	expect(t, c, "pong")
	settle(t, b, ids[0], 8)
	b.Leave()
	if v := one(t, a.Recall(ids)); !v.Kept {
		t.Fatalf("verdict: %+v", v)
	}
	c.SetDeadline(time.Now().Add(10 * timeout))
	expectEOF(t, c)
	if err := closed.waitClosed(t, 1)[ids[0]]; err != conn.ErrReadTimeout {
		t.Errorf("it ended with %v", err)
	}
}
