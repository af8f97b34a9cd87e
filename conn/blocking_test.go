package conn_test

import (
	"testing"
	"time"

	"baton/conn"
)

// A session that is closed while its handler runs ends once, and what the handler does afterwards touches nothing.
func TestCloseWhileHandlerBlocks(t *testing.T) {
	for name, end := range map[string]func(*conn.Server) error{"Close": (*conn.Server).Close, "Leave": (*conn.Server).Leave} {
		t.Run(name, func(t *testing.T) {
			p, runs, release, done := heldProtocol()
			s, r := start(t, conn.Config{}, p)
			c := dial(t, listen(t, s, "held"))
			send(t, c, "x")
			<-runs
			if err := end(s); err != nil {
				t.Error(err)
			}
			if s.Len() != 0 {
				t.Errorf("%d sessions are left", s.Len())
			}
			release()
			select {
			case <-done:
			case <-time.After(5 * time.Second):
				t.Error("the handler did not get to its end")
			}
			if got := len(r.waitClosed(t, 0)); name == "Close" && got != 1 || name == "Leave" && got != 0 {
				t.Errorf("told %d times of the end", got)
			}
		})
	}
}

// The same with loops that go on: Shutdown gives up on it, and the loop does not take it up again.
func TestShutdownWhileHandlerBlocks(t *testing.T) {
	p, runs, release, _ := heldProtocol()
	s, r := start(t, conn.Config{}, p)
	c := dial(t, listen(t, s, "held"))
	send(t, c, "x")
	<-runs
	if err := s.Shutdown(expired()); err == nil {
		t.Error("Shutdown waited for nobody and reports success")
	}
	r.waitClosed(t, 1)
	r.mu.Lock()
	clear(r.closed)
	r.mu.Unlock()
	// Whoever gets the number of its descriptor now must not notice.
	release()
	s.Accept()
	other := dial(t, listen(t, s, "ping"))
	send(t, other, "ping")
	expect(t, other, "pong")
	expectParked(t, s)
	if n := len(r.waitClosed(t, 0)); n != 0 {
		t.Errorf("it ended %d more times", n)
	}
}
