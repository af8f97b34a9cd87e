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
