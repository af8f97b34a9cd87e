package conn_test

import (
	"errors"
	"fmt"
	"testing"

	"baton/conn"
)

// giveBack has sessions that a has given to b return to a.
func giveBack(t *testing.T, b, a *conn.Server, ids []conn.ID) {
	t.Helper()
	offer(t, b, a, ids)
	give(t, b, a, ids)
}

// A session that was given comes back without its socket being sent again, ten times, with what it has read and said meanwhile.
func TestThereAndBack(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
	slated(t, a, b)
	c := dial(t, listen(t, a, "lines"))
	waitLen(t, a, 1)
	send(t, c, "on")
	for n := 1; n < 20; n += 2 {
		ids := lend(t, a, b)
		first := a.Get(ids[0])
		offer(t, a, b, ids)
		give(t, a, b, ids)
		send(t, c, "e\ntw")
		expect(t, c, fmt.Sprintf("%d one\n", n))
		giveBack(t, b, a, ids)
		send(t, c, "o\non")
		expect(t, c, fmt.Sprintf("%d two\n", n+1))
		if a.Len() != 1 || b.Len() != 0 {
			t.Fatalf("%d sessions are back, %d are there", a.Len(), b.Len())
		}
		if given, borrowed := a.Held(); len(given)+len(borrowed) != 0 {
			t.Errorf("still held: %v, %v", given, borrowed)
		}
		if _, err := first.Write([]byte("x")); !errors.Is(err, conn.ErrMoved) {
			t.Errorf("writing to what it was before it moved: %v", err)
		}
		b.Release(ids...)
		a.Unlend(ids)
	}
}

// A session on its way back whose process dies is judged like one that never set out: from the slate, or from the newer state.
func TestRecallOnTheWayBack(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
	for _, slate := range []bool{false, true} {
		if slate {
			slated(t, a, b)
		}
		c := dial(t, listen(t, a, "lines"))
		send(t, c, "one\n")
		expect(t, c, "1 one\n")
		ids := lend(t, a, b)
		offer(t, a, b, ids)
		give(t, a, b, ids)
		send(t, c, "two\n")
		expect(t, c, "2 two\n")
		offer(t, b, a, ids)
		b.Give(ids) // and the GIVE is never heard
		b.Release(ids...)
		if v := one(t, a.Recall(ids)); !v.Kept {
			t.Fatalf("slate %v: %+v", slate, v)
		}
		send(t, c, "three\n")
		expect(t, c, "3 three\n")
		c.Close()
		waitLen(t, a, 0)
	}
}

// What was not given cannot come back.
func TestTakeBackWhatWasNotGiven(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
	c := dial(t, listen(t, a, "lines"))
	send(t, c, "one\n")
	expect(t, c, "1 one\n")
	ids := lend(t, a, b)
	states, _, _ := a.Freeze(ids, nil)
	if err := a.Take(&states[0]); !errors.Is(err, conn.ErrUnknown) {
		t.Errorf("taking back a session that is ours: %v", err)
	}
	a.Thaw(ids)
	c.Close()
	waitLen(t, a, 0)
	if err := a.Take(&states[0]); !errors.Is(err, conn.ErrUnknown) {
		t.Errorf("taking back a session that has ended: %v", err)
	}
}
