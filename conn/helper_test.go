package conn_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
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

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("does not come: %s", what)
		}
	}
}

// expectParked fails if loops keep going round though nothing happens. The servers must have no timeouts, whose wheel turns.
func expectParked(t *testing.T, servers ...*conn.Server) {
	t.Helper()
	for _, s := range servers {
		for range 5 { // what has happened is dealt with
			if err := s.Beat(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	const enough = 20 // a loop that spins goes round a million times a second
	before := make([]uint64, len(servers))
	for i, s := range servers {
		before[i] = s.Rounds()
	}
	time.Sleep(40 * time.Millisecond)
	for i, s := range servers {
		if rounds := s.Rounds() - before[i]; rounds > enough {
			t.Errorf("server %d went round %d times with nothing to do", i, rounds)
		}
	}
}

func waitLen(t *testing.T, s *conn.Server, n int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); s.Len() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d sessions, want %d", s.Len(), n)
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

// logged passes on the messages that a server logs.
type logged struct{ messages chan string }

func newLogged() (*slog.Logger, chan string) {
	l := logged{make(chan string, 1000)}
	return slog.New(l), l.messages
}

func (l logged) Enabled(context.Context, slog.Level) bool { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logged) WithGroup(string) slog.Handler            { return l }
func (l logged) Handle(_ context.Context, r slog.Record) error {
	select {
	case l.messages <- r.Message:
	default:
	}
	return nil
}

func waitLogged(t *testing.T, messages <-chan string, want string) {
	t.Helper()
	for end := time.After(5 * time.Second); ; {
		select {
		case m := <-messages:
			if m == want {
				return
			}
		case <-end:
			t.Fatalf("not logged: %q", want)
		}
	}
}

func newContext() (context.Context, func()) { return context.WithCancel(context.Background()) }

func expired() context.Context {
	ctx, cancel := newContext()
	cancel()
	return ctx
}
