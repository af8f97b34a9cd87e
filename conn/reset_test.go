package conn_test

import (
	"io"
	"testing"

	"baton/conn"
)

// The client resets the connection, wherever its session is: the one who owns it then, or next, finds out, and it ends once.
func TestResetInEachPhase(t *testing.T) {
	p, ended := pushesProtocol()
	held, runs, release, _ := heldProtocol()
	defer release()
	for _, tt := range []struct {
		when, protocol string
		prepare        func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID)
		finish         func(t *testing.T, a, b *conn.Server, ids []conn.ID)
	}{
		{when: "idle"},
		{when: "lingering", prepare: func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID) {
			a.Get(ids[0]).Close(nil)
			_, err := io.Copy(io.Discard, c.(io.Reader))
			if err != nil {
				t.Error(err)
			}
		}},
		{when: "with output that waits", prepare: func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID) {
			a.Get(ids[0]).Write(make([]byte, 4<<20))
		}},
		{when: "with output that waits, and closing", prepare: func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID) {
			a.Get(ids[0]).Write(make([]byte, 4<<20))
			a.Get(ids[0]).Close(nil)
		}},
		{when: "half-open", protocol: "pushes", prepare: func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID) {
			c.(interface{ CloseWrite() error }).CloseWrite()
			<-ended
		}},
		{when: "frozen, then thawed", prepare: func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID) {
			lend(t, a, b)
			offer(t, a, b, ids)
		}, finish: func(t *testing.T, a, b *conn.Server, ids []conn.ID) { a.Thaw(ids) }},
		{when: "frozen, then given", prepare: func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID) {
			lend(t, a, b)
			offer(t, a, b, ids)
		}, finish: give},
		{when: "half-open and frozen, then given", protocol: "pushes", prepare: func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID) {
			c.(interface{ CloseWrite() error }).CloseWrite()
			<-ended
			lend(t, a, b)
			offer(t, a, b, ids)
		}, finish: give},
		{when: "given", prepare: func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID) {
			lend(t, a, b)
			offer(t, a, b, ids)
			give(t, a, b, ids)
		}},
		{when: "a handler blocks", protocol: "held", prepare: func(t *testing.T, c io.Writer, a, b *conn.Server, ids []conn.ID) {
			io.WriteString(c, "x")
			<-runs
		}, finish: func(*testing.T, *conn.Server, *conn.Server, []conn.ID) { release() }},
	} {
		t.Run(tt.when, func(t *testing.T) {
			a, ra := start(t, conn.Config{Run: 1}, p, held)
			b, rb := start(t, conn.Config{Run: 2}, p, held)
			if tt.protocol == "" {
				tt.protocol = "ping"
			}
			c := dial(t, listen(t, a, tt.protocol))
			waitLen(t, a, 1)
			ids := a.IDs()
			if tt.prepare != nil {
				tt.prepare(t, c, a, b, ids)
			}
			c.SetLinger(0)
			c.Close()
			if tt.finish != nil {
				tt.finish(t, a, b, ids)
			}
			eventually(t, "the end of the session", func() bool { return a.Len()+b.Len() == 0 })
			if n := len(ra.waitClosed(t, 0)) + len(rb.waitClosed(t, 0)); n != 1 {
				t.Errorf("it ended %d times", n)
			}
			expectParked(t, a, b)
		})
	}
}
