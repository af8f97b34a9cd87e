package tests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"baton/internal/load"
)

// A client is one TCP connection whose owner knows what has to come.
type client struct {
	*net.TCPConn
	t testing.TB
}

// dial connects. The connection is closed at the end of the test.
func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := tryDial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{c, t}
}

func tryDial(addr string) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// ping sends n pings at once and takes n pongs.
func (c *client) ping(n int) {
	c.t.Helper()
	c.send(repeat("ping", n))
	c.expect(n)
}

func (c *client) send(s string) {
	c.t.Helper()
	c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// expect takes n pongs.
func (c *client) expect(n int) {
	c.t.Helper()
	if err := expect(c.TCPConn, n); err != nil {
		c.t.Fatal(err)
	}
}

// expectEnd takes the end of the stream, and nothing before it.
func (c *client) expectEnd() {
	c.t.Helper()
	if err := expectEnd(c.TCPConn); err != nil {
		c.t.Fatal(err)
	}
}

// expectQuiet takes nothing for a moment: the connection stands, and no byte comes unasked.
func (c *client) expectQuiet() {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	var b [1]byte
	n, err := c.Read(b[:])
	var timeout net.Error
	if n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		c.t.Fatalf("want silence, got %d bytes and %v", n, err)
	}
}

// expect takes n pongs from a connection, and says what is wrong with them.
func expect(c net.Conn, n int) error {
	c.SetReadDeadline(time.Now().Add(patience))
	want := []byte(repeat("pong", min(n, 16<<10)))
	buf := make([]byte, len(want))
	for left := 4 * n; left > 0; {
		part := min(left, len(buf))
		if got, err := io.ReadFull(c, buf[:part]); err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", 4*n-left+got, 4*n, err)
		}
		if !bytes.Equal(buf[:part], want[:part]) {
			return fmt.Errorf("wrong bytes in the block at %d of %d", 4*n-left, 4*n)
		}
		left -= part
	}
	return nil
}

// expectEnd takes the end of the stream, and says what came instead.
func expectEnd(c net.Conn) error {
	c.SetReadDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(c)
	if err != nil || len(rest) > 0 {
		return fmt.Errorf("want the end of the stream, got %d bytes and %w", len(rest), err)
	}
	return nil
}

func repeat(s string, n int) string { return string(bytes.Repeat([]byte(s), n)) }

// crowd is a load that must not notice anything: it is stopped, and judged, by its check.
type crowd struct {
	t testing.TB
	*load.Load
}

// newCrowd starts a load.
func newCrowd(t testing.TB, addr string, groups ...load.Group) *crowd {
	t.Helper()
	l, err := load.Start(t.Context(), load.Config{Addr: addr, Groups: groups, Interval: 100 * time.Millisecond, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t, l}
	t.Cleanup(func() { c.Stop(t.Context()) }) // its context has ended: at once, if check was not reached
	return c
}

// fewOfEach is a small crowd of every kind.
func fewOfEach() []load.Group {
	return []load.Group{
		{N: 8}, {N: 4, Split: true}, {N: 2, Slow: true, Pile: 256 << 10, Pause: time.Second}, {N: 4, Churn: true}, {N: 2, Pipeline: 16},
	}
}

// check ends the load; nothing may have been lost.
func (c *crowd) check() load.Report {
	c.t.Helper()
	r := c.Stop(c.t.Context())
	if !r.OK() {
		c.t.Errorf("dropped %d, wrong bytes %d, refused %d, cut %d, of %d connections; frames %d", r.Drops, r.Wrong, r.Refused, r.Cut, r.Dialled, r.Frames)
		for _, f := range r.Failures {
			c.t.Error(f)
		}
	}
	if r.Frames == 0 {
		c.t.Error("the crowd did nothing")
	}
	return r
}
