package conn_test

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"baton/conn"
)

// A client with input without end keeps others waiting for a turn of its own, not for its end.
func TestBusyClientStarvesNobody(t *testing.T) {
	var turns atomic.Int32
	s, _ := start(t, conn.Config{}, conn.Protocol{Name: "swallows", New: func() conn.Handler {
		return handlerFunc(func(c *conn.Conn) error {
			turns.Add(1)
			time.Sleep(time.Millisecond)
			c.Discard(len(c.Input()))
			return nil
		})
	}})
	busy := dial(t, listen(t, s, "swallows"))
	quiet := dial(t, listen(t, s, "ping"))
	go io.Copy(busy, &repeat{"ping", 1 << 40}) // until it is closed
	eventually(t, "the busy client's input piles up", func() bool { return turns.Load() > 20 })
	for range 10 {
		before := turns.Load()
		send(t, quiet, "ping")
		expect(t, quiet, "pong")
		if waited := turns.Load() - before; waited > 50 { // it is one or two; the rest is for a machine that is busy elsewhere
			t.Errorf("waited for %d turns of another", waited)
		}
	}
}

// Time in which the loop stood still is not the peer's: what came meanwhile came in time.
func TestStandingLoopTimesNobodyOut(t *testing.T) {
	const timeout = 150 * time.Millisecond
	stands := make(chan bool, 1)
	s, r := start(t, conn.Config{ReadTimeout: timeout}, conn.Protocol{Name: "stands", New: func() conn.Handler {
		return handlerFunc(func(c *conn.Conn) error {
			if _, err := c.Peek(1); err != nil {
				return err
			}
			c.Discard(1)
			stands <- true
			time.Sleep(3 * timeout)
			return nil
		})
	}})
	bad, good := dial(t, listen(t, s, "stands")), dial(t, listen(t, s, "ping"))
	send(t, good, "ping")
	expect(t, good, "pong")
	send(t, bad, "x")
	<-stands
	bad.Close()
	send(t, good, "ping")
	expect(t, good, "pong")
	expectEOF(t, good) // and then it is timed out like any other
	good.Close()
	for id, err := range r.waitClosed(t, 2) {
		if want := map[uint64]error{1: io.EOF, 2: conn.ErrReadTimeout}[id.N()]; err != want {
			t.Errorf("session %v ended with %v, want %v", id, err, want)
		}
	}
}
