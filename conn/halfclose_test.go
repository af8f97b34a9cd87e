package conn_test

import (
	"io"
	"testing"
	"time"

	"baton/conn"
)

// What a half-open session still has to send keeps nobody busy, whatever epoll says of the end that was read long ago.
func TestHalfOpenDoesNotSpin(t *testing.T) {
	p, ended := pushesProtocol()
	s, _ := start(t, conn.Config{}, p)
	c := dial(t, listen(t, s, "pushes"))
	c.CloseWrite()
	push := <-ended
	const size = 4 << 20
	sent := make([]byte, size-1)
	if _, err := push.Write(sent); err != nil { // more than the socket takes: an edge follows when the peer reads
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, sent); err != nil {
		t.Fatal(err)
	}
	expectParked(t, s)
	push.Write([]byte("bye"))
	push.Close(nil)
	expect(t, c, "bye")
	expectEOF(t, c)
}

// A half-open session moves, goes on, and the loop that gets it has nothing more to do for it than for others.
func TestHalfOpenMoves(t *testing.T) {
	p, ended := pushesProtocol()
	a, _ := start(t, conn.Config{Run: 1}, p)
	q, again := pushesProtocol()
	b, _ := start(t, conn.Config{Run: 2}, q)
	c := dial(t, listen(t, a, "pushes"))
	c.CloseWrite()
	<-ended
	move(t, a, b)
	expectParked(t, b)
	push := b.Get(b.IDs()[0])
	push.Write([]byte("hello"))
	expect(t, c, "hello")
	push.Close(nil)
	expectEOF(t, c)
	if len(again) > 0 {
		t.Error("the handler was told twice of the end of the stream")
	}
}

// A half-open session whose peer resets it ends, though nobody writes.
func TestHalfOpenReset(t *testing.T) {
	p, ended := pushesProtocol()
	s, r := start(t, conn.Config{}, p)
	c := dial(t, listen(t, s, "pushes"))
	c.CloseWrite()
	<-ended
	c.SetLinger(0)
	c.Close()
	for _, err := range r.waitClosed(t, 1) {
		if err == nil || err == io.EOF {
			t.Errorf("ended with %v, want the reset", err)
		}
	}
}

// The other direction: we have ended ours, and the peer goes on sending, or says nothing. It has a second.
func TestPeerThatDoesNotClose(t *testing.T) {
	s, r := start(t, conn.Config{})
	addr := listen(t, s, "ping")
	silent, busy := dial(t, addr), dial(t, addr)
	begin := time.Now()
	send(t, silent, "pang")
	send(t, busy, "pang")
	expectEOF(t, silent)
	go io.Copy(busy, &repeat{"ping", 1 << 40}) // until it is reset
	r.waitClosed(t, 2)
	if took := time.Since(begin); took < 900*time.Millisecond || took > 3*time.Second {
		t.Errorf("closed after %v, want a second and a tick", took)
	}
}
