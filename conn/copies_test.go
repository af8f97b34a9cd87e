package conn_test

import (
	"testing"
	"time"

	"baton/conn"
)

// Once a session was given, its client wakes nobody here, though we hold a copy of its socket.
func TestCopiesWakeNobody(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	c := dial(t, listen(t, a, "ping"))
	waitLen(t, a, 1)
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	time.Sleep(10 * time.Millisecond) // what was posted before has been looked at
	before := a.Rounds()
	for range 50 {
		send(t, c, "ping")
		expect(t, c, "pong")
	}
	c.CloseWrite()
	expectEOF(t, c)
	if rounds := a.Rounds() - before; rounds > 10 { // the wheel's ticks
		t.Errorf("the giver's loop went round %d times while the receiver served", rounds)
	}
	a.Release(ids...)
}

// Whoever ends a session while the other process has a copy of its socket: the client sees the end within 50 ms.
func TestEndIsSeenAtOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		given bool
		end   func(c *conn.Conn)
	}{
		"giver, lent":     {false, func(c *conn.Conn) { c.Close(nil) }},
		"receiver, given": {true, func(c *conn.Conn) { c.Close(nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := start(t, conn.Config{Run: 1})
			b, _ := start(t, conn.Config{Run: 2})
			c := dial(t, listen(t, a, "ping"))
			waitLen(t, a, 1)
			owner := a
			ids := lend(t, a, b)
			if tt.given {
				offer(t, a, b, ids)
				give(t, a, b, ids)
				owner = b
			}
			session := owner.Get(ids[0])
			begin := time.Now()
			tt.end(session)
			expectEOF(t, c)
			if took := time.Since(begin); took > 50*time.Millisecond {
				t.Errorf("seen after %v", took)
			}
			c.Close()
			waitLen(t, owner, 0)
			b.Drop(ids)
			a.Release(ids...)
			a.Unlend(ids)
		})
	}
}
