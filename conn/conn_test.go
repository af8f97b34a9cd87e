package conn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"baton/conn"
	"baton/conn/ping"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A record notes what a server tells of its sessions.
type record struct {
	mu     sync.Mutex
	opened []conn.Info
	closed map[conn.ID]error
	wake   chan struct{}
}

func (r *record) waitClosed(t *testing.T, n int) map[conn.ID]error {
	t.Helper()
	for end := time.After(10 * time.Second); ; {
		r.mu.Lock()
		if len(r.closed) >= n {
			defer r.mu.Unlock()
			return maps.Clone(r.closed)
		}
		r.mu.Unlock()
		select {
		case <-r.wake:
		case <-end:
			t.Fatalf("%d sessions have not ended", n)
		}
	}
}

// start starts a server that speaks ping and what else is given, and accepts nowhere yet.
func start(t *testing.T, cfg conn.Config, protocols ...conn.Protocol) (*conn.Server, *record) {
	t.Helper()
	checkFDs(t)
	r := &record{closed: map[conn.ID]error{}, wake: make(chan struct{}, 1)}
	cfg.Protocols = append(protocols, ping.Protocol())
	if cfg.Run == 0 {
		cfg.Run = 1
	}
	cfg.Opened = func(i conn.Info) { r.mu.Lock(); r.opened = append(r.opened, i); r.mu.Unlock() }
	cfg.Closed = func(i conn.Info, err error) {
		r.mu.Lock()
		r.closed[i.ID] = err
		r.mu.Unlock()
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	s, err := conn.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s, r
}

var checked sync.Map // *testing.T → true

// checkFDs has a test fail that leaves descriptors open.
func checkFDs(t *testing.T) {
	if _, again := checked.LoadOrStore(t, true); again {
		return
	}
	before := countFDs(t)
	t.Cleanup(func() {
		if now := countFDs(t); now > before {
			t.Errorf("%d descriptors open, %d before", now, before)
		}
	})
}

func countFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func listen(t *testing.T, s *conn.Server, protocol string) string {
	t.Helper()
	l, err := s.Listen(protocol + "://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Accept()
	return l.Addr.String()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %.40q, %v; want %.40q", got[:n], err, want)
	}
}

func expectEOF(t *testing.T, c net.Conn) {
	t.Helper()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Fatalf("got %.40q, %v; want the end of the stream", rest, err)
	}
}

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

// repeat reads as s again and again, left bytes in all.
type repeat struct {
	s    string
	left int
}

func (r *repeat) Read(p []byte) (n int, err error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	for n < len(p)-len(r.s) && r.left > 0 {
		n += copy(p[n:], r.s)
		r.left -= len(r.s)
	}
	return n, nil
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

// checker passes on what it reads, if it is "pong" again and again.
type checker struct {
	t *testing.T
	r io.Reader
}

func (c *checker) Read(p []byte) (int, error) {
	n, err := io.ReadFull(c.r, p[:len(p)&^3])
	if !bytes.Equal(p[:n], bytes.Repeat([]byte("pong"), n/4)) {
		c.t.Error("wrong bytes")
	}
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
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

// lines answers each line with the line and its number, which is state.
type lines struct{ n int }

func linesProtocol() conn.Protocol {
	return conn.Protocol{Name: "lines", New: func() conn.Handler { return &lines{} }}
}

func (l *lines) Serve(c *conn.Conn) error {
	b := c.Input()
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return c.More()
	}
	l.n++
	line := fmt.Sprintf("%d %s", l.n, b[:i+1])
	c.Discard(i + 1)
	_, err := c.Write([]byte(line))
	return err
}

func (l *lines) Save(int) ([]byte, error) { return []byte{byte(l.n >> 8), byte(l.n)}, nil }

func (l *lines) Load(_ int, b []byte) error {
	if len(b) != 2 {
		return errors.New("lines: want two bytes")
	}
	l.n = int(b[0])<<8 | int(b[1])
	return nil
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
