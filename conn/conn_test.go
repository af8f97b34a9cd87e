package conn_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"baton/conn"
	"baton/conn/ping"
)

func TestPingPong(t *testing.T) {
	s, r := start(t, conn.Config{})
	c := dial(t, listen(t, s, "ping"))
	for range 3 {
		send(t, c, "ping")
		expect(t, c, "pong")
	}
	send(t, c, "pi")
	time.Sleep(20 * time.Millisecond)
	send(t, c, "ngpingp")
	expect(t, c, "pongpong")
	send(t, c, "ing")
	expect(t, c, "pong")
	c.CloseWrite()
	expectEOF(t, c)
	for id, err := range r.waitClosed(t, 1) {
		if err != io.EOF || id.Run() != 1 {
			t.Errorf("session %v ended with %v", id, err)
		}
	}
}

func TestBadFrameEndsTheSession(t *testing.T) {
	s, r := start(t, conn.Config{})
	c := dial(t, listen(t, s, "ping"))
	send(t, c, "pingpang"+string(bytes.Repeat([]byte("x"), 200_000)))
	expect(t, c, "pong") // what was right is answered, though the rest was not read
	expectEOF(t, c)
	c.Close()
	for _, err := range r.waitClosed(t, 1) {
		if !errors.Is(err, ping.ErrFrame) {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestHalfFrameAtTheEnd(t *testing.T) {
	s, r := start(t, conn.Config{})
	c := dial(t, listen(t, s, "ping"))
	send(t, c, "pingpi")
	c.CloseWrite()
	expect(t, c, "pong")
	expectEOF(t, c)
	for _, err := range r.waitClosed(t, 1) {
		if err != io.ErrUnexpectedEOF {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestUnreadAnswersHoldBackReading(t *testing.T) {
	s, _ := start(t, conn.Config{HighWater: 64 << 10})
	c := dial(t, listen(t, s, "ping"))
	const size = 32 << 20
	go func() {
		io.Copy(c, &repeat{"ping", size})
		c.CloseWrite()
	}()
	time.Sleep(200 * time.Millisecond)
	n, err := io.Copy(io.Discard, &checker{t, c})
	if err != nil || n != size {
		t.Fatalf("got %d bytes, %v; want %d", n, err, size)
	}
}

func TestShutdownSendsWhatWaits(t *testing.T) {
	s, r := start(t, conn.Config{})
	addr := listen(t, s, "ping")
	c := dial(t, addr)
	idle := dial(t, addr)
	send(t, c, "ping")
	expect(t, c, "pong")
	go io.Copy(c, &repeat{"ping", 3 << 20})
	time.Sleep(100 * time.Millisecond)
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	expectEOF(t, idle)
	idle.Close()
	if n, err := io.Copy(io.Discard, &checker{t, c}); err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
	c.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still accepts")
	}
	for _, err := range r.waitClosed(t, 2) {
		if err != conn.ErrStopped {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestBadURLs(t *testing.T) {
	s, _ := start(t, conn.Config{})
	for url, want := range map[string]error{
		"": conn.ErrURL, "ping": conn.ErrURL, "ping://": conn.ErrURL, "://:1": conn.ErrURL, "ping://host": conn.ErrURL,
		"ping://:1/x": conn.ErrURL, "pong://:1": conn.ErrProtocol,
	} {
		if _, err := s.Listen(url); !errors.Is(err, want) {
			t.Errorf("Listen(%q): %v, want %v", url, err, want)
		}
	}
	if _, err := s.Listen("ping://127.0.0.1:99999"); err == nil {
		t.Error("port 99999 was taken")
	}
}

// panics does.
type panics struct{}

func (panics) Serve(*conn.Conn) error { panic("secret") }

func TestPanicEndsOnlyItsSession(t *testing.T) {
	s, r := start(t, conn.Config{}, conn.Protocol{Name: "panics", New: func() conn.Handler { return panics{} }})
	bad := dial(t, listen(t, s, "panics"))
	good := dial(t, listen(t, s, "ping"))
	send(t, bad, "x")
	expectEOF(t, bad)
	bad.Close()
	send(t, good, "ping")
	expect(t, good, "pong")
	for _, err := range r.waitClosed(t, 1) {
		if !errors.Is(err, conn.ErrPanic) || bytes.Contains([]byte(err.Error()), []byte("secret")) {
			t.Errorf("ended with %v", err)
		}
	}
}
