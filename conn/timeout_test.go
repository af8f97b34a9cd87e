package conn_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"baton/conn"
)

func TestReadTimeout(t *testing.T) {
	s, r := start(t, conn.Config{ReadTimeout: 300 * time.Millisecond})
	c := dial(t, listen(t, s, "ping"))
	begin := time.Now()
	for range 3 { // each frame starts it anew
		time.Sleep(150 * time.Millisecond)
		send(t, c, "ping")
		expect(t, c, "pong")
	}
	expectEOF(t, c)
	if took := time.Since(begin); took < 750*time.Millisecond || took > 2*time.Second {
		t.Errorf("closed after %v, want 750 ms and a tick", took)
	}
	c.Close()
	for _, err := range r.waitClosed(t, 1) {
		if err != conn.ErrReadTimeout {
			t.Errorf("ended with %v", err)
		}
	}
}

// Who never says anything is timed out, too, on whichever loop.
func TestReadTimeoutOfTheSilent(t *testing.T) {
	s, r := start(t, conn.Config{ReadTimeout: 100 * time.Millisecond, Loops: 2})
	addr := listen(t, s, "ping")
	for range 4 {
		defer dial(t, addr).Close()
	}
	for _, err := range r.waitClosed(t, 4) {
		if err != conn.ErrReadTimeout {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestWriteTimeout(t *testing.T) {
	s, r := start(t, conn.Config{WriteTimeout: 300 * time.Millisecond, HighWater: 1 << 10})
	c := dial(t, listen(t, s, "ping"))
	go io.Copy(c, &repeat{"ping", 64 << 20}) // nothing of the answers is taken
	for _, err := range r.waitClosed(t, 1) {
		if err != conn.ErrWriteTimeout {
			t.Errorf("ended with %v", err)
		}
	}
}

// Time spent frozen does not count, and what was left of a timeout moves.
func TestTimeoutsMove(t *testing.T) {
	cfg := conn.Config{Run: 1, ReadTimeout: 400 * time.Millisecond}
	a, _ := start(t, cfg)
	cfg.Run = 2
	b, rb := start(t, cfg)
	c := dial(t, listen(t, a, "ping"))
	send(t, c, "ping")
	expect(t, c, "pong")
	begin := time.Now()
	time.Sleep(200 * time.Millisecond)
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	time.Sleep(300 * time.Millisecond)
	give(t, a, b, ids)
	expectEOF(t, c)
	if took := time.Since(begin); took < 700*time.Millisecond || took > 1500*time.Millisecond {
		t.Errorf("closed after %v, want 400 ms + 300 ms frozen + a tick", took)
	}
	c.Close()
	a.Release(ids...)
	for _, err := range rb.waitClosed(t, 1) {
		if err != conn.ErrReadTimeout {
			t.Errorf("ended with %v", err)
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
