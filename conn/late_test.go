package conn_test

import (
	"testing"
	"time"

	"baton/conn"
)

// What was written to a session while it was frozen waits in the process that froze it. Nobody goes on without it.
func TestLateOutputAndDeath(t *testing.T) {
	for name, tt := range map[string]struct {
		given bool // it was the successor that died, before the session's first turn there
		kept  bool
	}{
		"predecessor": {false, false}, // and the output with it
		"successor":   {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
			b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
			slated(t, a, b)
			c := dial(t, listen(t, a, "lines"))
			send(t, c, "one\n")
			expect(t, c, "1 one\n")
			ids := lend(t, a, b)
			offer(t, a, b, ids)
			if _, err := a.Get(ids[0]).Write([]byte("late\n")); err != nil {
				t.Fatal(err)
			}
			var v conn.Verdict
			survivor := b
			if tt.given {
				a.Give(ids)
				b.Drop(ids)
				v, survivor = one(t, a.Recall(ids)), a
			} else {
				a.Leave()
				v = one(t, b.Rescue(ids))
			}
			if v.Kept != tt.kept {
				t.Fatalf("verdict: %+v", v)
			}
			if !tt.kept {
				return
			}
			expect(t, c, "late\n")
			send(t, c, "two\n")
			expect(t, c, "2 two\n")
			if survivor.Len() != 1 {
				t.Errorf("%d sessions", survivor.Len())
			}
		})
	}
}

// The socket takes no more when the session is given, and the successor accepts another line for it and dies: it is not resumed without that.
func TestStuckOutputAndDeath(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
	slated(t, a, b)
	c := dial(t, listen(t, a, "lines"))
	waitLen(t, a, 1)
	c.SetReadBuffer(16 << 10)
	line := make([]byte, 64<<10)
	for waits, n := false, 0; !waits; { // it may look so, while the kernel has more room to give
		if _, err := a.Get(a.IDs()[0]).Write(line); err != nil {
			t.Fatal(err)
		}
		n += len(line)
		waits = waitWritten(t, a) < uint64(n)
	}
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	if _, err := b.Get(ids[0]).Write([]byte("late\n")); err != nil {
		t.Fatal(err)
	}
	b.Leave()
	if v := one(t, a.Recall(ids)); v.Kept {
		t.Errorf("verdict: %+v", v)
	}
}

// waitWritten waits until the socket of the session of s takes no more, and returns how much it has taken.
func waitWritten(t *testing.T, s *conn.Server) uint64 {
	t.Helper()
	var last conn.Witness
	for still := 0; still < 5; time.Sleep(2 * time.Millisecond) {
		w, err := s.Witness(s.IDs()[0])
		if err != nil {
			t.Fatal(err)
		}
		if still++; w != last {
			still, last = 0, w
		}
	}
	return last.Written
}

// A session that was closed while it was frozen does not come back to life.
func TestLateCloseAndDeath(t *testing.T) {
	for _, given := range []bool{false, true} {
		a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
		b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
		slated(t, a, b)
		c := dial(t, listen(t, a, "lines"))
		send(t, c, "one\n")
		expect(t, c, "1 one\n")
		ids := lend(t, a, b)
		offer(t, a, b, ids)
		a.Get(ids[0]).Close(nil)
		if given {
			a.Give(ids)
			b.Drop(ids)
			a.Recall(ids)
		} else {
			a.Leave()
			b.Rescue(ids)
		}
		c.SetDeadline(time.Now().Add(time.Second))
		expectEOF(t, c)
	}
}
