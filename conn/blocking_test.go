package conn_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"baton/conn"
)

// held is a protocol whose handler says that it runs, waits, and consumes what it has.
func heldProtocol(t *testing.T) (p conn.Protocol, runs <-chan *conn.Conn, release func()) {
	running, stop := make(chan *conn.Conn, 10), make(chan struct{})
	return conn.Protocol{Name: "held", Blocking: true, New: func() conn.Handler {
		return handlerFunc(func(c *conn.Conn) error {
			b, err := c.Peek(1)
			if err != nil {
				return err
			}
			running <- c
			<-stop
			_, err = c.Write(b)
			c.Discard(1)
			return err
		})
	}}, running, sync.OnceFunc(func() { close(stop) })
}

// A session that is closed while its handler runs ends once, and what the handler does afterwards touches nothing.
func TestCloseWhileHandlerBlocks(t *testing.T) {
	for name, end := range map[string]func(*conn.Server) error{"Close": (*conn.Server).Close, "Leave": (*conn.Server).Leave} {
		t.Run(name, func(t *testing.T) {
			p, runs, release := heldProtocol(t)
			s, r := start(t, conn.Config{}, p)
			c := dial(t, listen(t, s, "held"))
			send(t, c, "x")
			session := <-runs
			if err := end(s); err != nil {
				t.Error(err)
			}
			if s.Len() != 0 {
				t.Errorf("%d sessions are left", s.Len())
			}
			release()
			eventually(t, "the handler returns", func() bool { _, err := session.Write(nil); return err != nil && len(runs) == 0 })
			if got := len(r.waitClosed(t, 0)); name == "Close" && got != 1 || name == "Leave" && got != 0 {
				t.Errorf("told %d times of the end", got)
			}
		})
	}
}

// The same with loops that go on: Shutdown gives up on it, and the loop does not take it up again.
func TestShutdownWhileHandlerBlocks(t *testing.T) {
	p, runs, release := heldProtocol(t)
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

// The write timeout strikes while a handler blocks, and the handler's next Write tells it.
func TestWriteTimeoutWhileHandlerBlocks(t *testing.T) {
	result := make(chan error, 1)
	p := conn.Protocol{Name: "floods", Blocking: true, New: func() conn.Handler {
		return handlerFunc(func(c *conn.Conn) error {
			c.Discard(len(c.Input()))
			chunk := make([]byte, 32<<10)
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if _, err := c.Write(chunk); err != nil && !errors.Is(err, conn.ErrBehind) {
					result <- err
					return err
				}
			}
			result <- nil
			return nil
		})
	}}
	s, r := start(t, conn.Config{WriteTimeout: 100 * time.Millisecond}, p)
	c := dial(t, listen(t, s, "floods"))
	send(t, c, "x")
	if err := <-result; err != conn.ErrWriteTimeout {
		t.Errorf("Write: %v, want ErrWriteTimeout", err)
	}
	for _, err := range r.waitClosed(t, 1) {
		if err != conn.ErrWriteTimeout {
			t.Errorf("ended with %v", err)
		}
	}
}
