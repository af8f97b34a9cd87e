package conn_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"baton/conn"

	"golang.org/x/sys/unix"
)

// What handlers do wrong ends their session, and nobody else's.
func TestWrongHandlers(t *testing.T) {
	for name, tt := range map[string]struct {
		serve func(*conn.Conn) error
		send  int // bytes
		want  error
	}{
		"discards too much":  {func(c *conn.Conn) error { c.Discard(len(c.Input()) + 1); return nil }, 1, conn.ErrPanic},
		"discards backwards": {func(c *conn.Conn) error { c.Discard(-1); return nil }, 1, conn.ErrPanic},
		"peeks too far":      {func(c *conn.Conn) error { _, err := c.Peek(1<<10 + 1); return err }, 1, conn.ErrTooLong},
		"never consumes":     {func(c *conn.Conn) error { return nil }, 1 << 20, conn.ErrTooLong},
		"never has enough":   {func(c *conn.Conn) error { return conn.ErrMore }, 1 << 20, conn.ErrTooLong},
		"finds no end":       {func(c *conn.Conn) error { return c.More() }, 1 << 10, conn.ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			for _, blocking := range []bool{false, true} {
				s, r := start(t, conn.Config{}, conn.Protocol{
					Name: "wrong", MaxFrame: 1 << 10, Blocking: blocking, New: func() conn.Handler { return handlerFunc(tt.serve) },
				})
				good, bad := dial(t, listen(t, s, "ping")), dial(t, listen(t, s, "wrong"))
				send(t, bad, string(make([]byte, tt.send)))
				bad.CloseWrite()
				for _, err := range r.waitClosed(t, 1) {
					if !errors.Is(err, tt.want) {
						t.Errorf("ended with %v, want %v", err, tt.want)
					}
				}
				send(t, good, "ping")
				expect(t, good, "pong")
			}
		})
	}
}

// Frames much larger than what is read in a turn arrive whole, in time that grows with their length and not its square.
func TestLargeFrames(t *testing.T) {
	const size = 16 << 20
	for _, blocking := range []bool{false, true} {
		s, _ := start(t, conn.Config{MaxOutput: 2 * size}, conn.Protocol{
			Name: "large", MaxFrame: size, Blocking: blocking, New: func() conn.Handler {
				return handlerFunc(func(c *conn.Conn) error {
					b, err := c.Peek(size)
					if err != nil {
						return err
					}
					_, err = c.Write([]byte{b[0], b[size-1]})
					c.Discard(size)
					return err
				})
			},
		})
		c := dial(t, listen(t, s, "large"))
		frame := bytes.Repeat([]byte("-"), size)
		frame[0], frame[size-1] = '(', ')'
		begin := time.Now()
		for range 2 {
			go c.Write(frame)
			expect(t, c, "()")
		}
		if took := time.Since(begin); took > 5*time.Second { // a second where every turn copies what is here; with -race, far more
			t.Errorf("blocking %v: took %v", blocking, took)
		}
	}
}

// Urgent data is data like any other: it waits for nobody, though the kernel lets no read go past where it begins.
func TestUrgentData(t *testing.T) {
	s, _ := start(t, conn.Config{})
	c := dial(t, listen(t, s, "ping"))
	waitLen(t, s, 1)
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		send(t, c, "pin")
		if cerr := rc.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("gpi"), unix.MSG_OOB, nil) }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		send(t, c, "ng")
		expect(t, c, "pongpong")
	}
}
