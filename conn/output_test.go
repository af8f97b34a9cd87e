package conn_test

import (
	"bytes"
	"io"
	"testing"

	"baton/conn"
)

// Who asks for much at once and reads it is not behind: the handler is called as fast as its answers are taken.
func TestManyAnswersAtOnce(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		s, _ := start(t, conn.Config{}, amplifiesProtocol(blocking))
		c := dial(t, listen(t, s, "amplifies"))
		const asked = 8 << 10 // bytes, all of them in one read; the answers are eight times what may wait
		send(t, c, string(bytes.Repeat([]byte("a"), asked)))
		c.CloseWrite()
		if n, err := io.Copy(io.Discard, c); n != asked*amplified || err != nil {
			t.Errorf("blocking %v: got %d bytes, %v; want %d", blocking, n, err, asked*amplified)
		}
		waitLen(t, s, 0)
	}
}

// The same while the session is moved again and again: what the handler has not been shown yet moves with it, the end of the stream too.
func TestManyAnswersMove(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1, HighWater: 64 << 10}, amplifiesProtocol(false))
	b, _ := start(t, conn.Config{Run: 2, HighWater: 64 << 10}, amplifiesProtocol(false))
	c := dial(t, listen(t, a, "amplifies"))
	const asked = 4 << 10
	send(t, c, string(bytes.Repeat([]byte("a"), asked)))
	c.CloseWrite()
	waitLen(t, a, 1)
	got := 0
	for from, to := a, b; got < asked*amplified; from, to = to, from {
		n, err := io.ReadFull(c, make([]byte, 1<<20))
		if err != nil {
			t.Fatalf("after %d bytes: %v", got+n, err)
		}
		got += n
		move(t, from, to)
	}
	expectEOF(t, c)
	c.Close()
	waitLen(t, a, 0)
	waitLen(t, b, 0)
}

// A handler that looks at Input is held back like one that peeks, and a peer that takes nothing is what it was: behind.
func TestPeerThatTakesNothing(t *testing.T) {
	s, _ := start(t, conn.Config{MaxOutput: 1 << 20, HighWater: 64 << 10}, linesProtocol())
	c := dial(t, listen(t, s, "lines"))
	waitLen(t, s, 1)
	session := s.Get(s.IDs()[0])
	go func() {
		io.Copy(c, &repeat{"\n", 16 << 20})
		c.CloseWrite()
	}()
	for n := 0; ; n += 64 << 10 { // a push does not ask whether the peer is behind
		if _, err := session.Write(make([]byte, 64<<10)); err == conn.ErrBehind {
			break
		} else if err != nil || n > 64<<20 { // the socket takes some, too
			t.Fatalf("after %d bytes: %v, want ErrBehind", n, err)
		}
	}
}
