package conn_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"baton/conn"

	"golang.org/x/sys/unix"
)

// exhaustDescriptors leaves this process without another descriptor until release.
func exhaustDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 0, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(release)
	return release
}

// Out of descriptors, who dials waits in the queue, who is here is served, and nobody is busy; then it goes on by itself.
func TestAcceptPausesWithoutDescriptors(t *testing.T) {
	log, messages := newLogged()
	s, _ := start(t, conn.Config{Log: log})
	addr := listen(t, s, "ping")
	here := dial(t, addr)
	waitLen(t, s, 1)
	s.StopAccepting()
	waiting := dial(t, addr)
	send(t, waiting, "ping")
	release := exhaustDescriptors(t)
	s.Accept()
	waitLogged(t, messages, "accepting pauses")
	send(t, here, "ping")
	expect(t, here, "pong")
	release()
	expect(t, waiting, "pong")
}

func TestListenerClosedWhileAcceptingPauses(t *testing.T) {
	log, messages := newLogged()
	s, _ := start(t, conn.Config{Log: log})
	first, err := s.Listen("ping://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dial(t, first.Addr.String())
	release := exhaustDescriptors(t)
	s.Accept()
	waitLogged(t, messages, "accepting pauses")
	s.CloseListener(first)
	release()
	second := listen(t, s, "ping")     // gets the descriptor's number
	time.Sleep(150 * time.Millisecond) // the pause, whose end must not touch it
	c := dial(t, second)
	send(t, c, "ping")
	expect(t, c, "pong")
	if got := s.Listeners(); len(got) != 1 || got[0].Addr.String() != second {
		t.Errorf("listeners are %v", got)
	}
}

// A listening socket that somebody else has shut down, as every holder of a copy can, keeps nobody busy and breaks nothing else.
func TestListenerShutDownByAnother(t *testing.T) {
	log, messages := newLogged()
	s, _ := start(t, conn.Config{Log: log})
	broken, err := s.Listen("ping://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	good := dial(t, listen(t, s, "ping"))
	if err := unix.Shutdown(broken.FD(), unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	waitLogged(t, messages, "accepting pauses")
	expectParked(t, s)
	send(t, good, "ping")
	expect(t, good, "pong")
}

// Once StopAccepting has returned, who dials waits, and every session that was accepted is in the books.
func TestStopAcceptingUnderDials(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	addr := listen(t, a, "ping")
	const clients = 100
	conns := make(chan net.Conn, clients)
	go func() {
		for range clients {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
			}
			conns <- c
		}
	}()
	var open []net.Conn
	for n := range clients {
		open = append(open, <-conns)
		if n%10 == 0 {
			a.StopAccepting()
			before := a.Len()
			if len(a.IDs()) != before {
				t.Errorf("%d sessions, then %d", before, len(a.IDs()))
			}
			a.Accept()
		}
	}
	waitLen(t, a, clients)
	for _, c := range open {
		c.Close()
	}
	waitLen(t, a, 0)
}

func TestAdoptListenerRefuses(t *testing.T) {
	s, _ := start(t, conn.Config{})
	before := countFDs(t)
	socket := func(listening, blocking bool) int {
		flags := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
		if !blocking {
			flags |= unix.SOCK_NONBLOCK
		}
		fd, err := unix.Socket(unix.AF_INET, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		if listening {
			unix.Listen(fd, 1)
		}
		return fd
	}
	for name, try := range map[string]func() (*conn.Listener, error){
		"blocking":      func() (*conn.Listener, error) { return s.AdoptListener("ping://:0", socket(true, true)) },
		"not listening": func() (*conn.Listener, error) { return s.AdoptListener("ping://:0", socket(false, false)) },
		"protocol":      func() (*conn.Listener, error) { return s.AdoptListener("x://:0", socket(true, false)) },
	} {
		if l, err := try(); err == nil || l != nil {
			t.Errorf("%s: adopted", name)
		}
	}
	if now := countFDs(t); now != before {
		t.Errorf("%d descriptors open, %d before", now, before)
	}
}

// A protocol that cannot make a handler loses that connection, not the server.
func TestPanicInNew(t *testing.T) {
	log, messages := newLogged()
	s, r := start(t, conn.Config{Log: log}, conn.Protocol{Name: "bad", New: func() conn.Handler { panic("secret") }})
	bad, good := dial(t, listen(t, s, "bad")), dial(t, listen(t, s, "ping"))
	if _, err := bad.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read: %v, want the end of the stream", err)
	}
	waitLogged(t, messages, "connection refused")
	send(t, good, "ping")
	expect(t, good, "pong")
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.opened) != 1 {
		t.Errorf("%d sessions were opened, want the good one", len(r.opened))
	}
}

// A server that was closed takes nothing that nobody would close.
func TestAfterClose(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	dial(t, listen(t, a, "ping"))
	waitLen(t, a, 1)
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Listen("ping://127.0.0.1:0"); !errors.Is(err, conn.ErrStopped) {
		t.Errorf("Listen: %v, want ErrStopped", err)
	}
	loans := a.Lend(a.IDs())
	before := countFDs(t)
	loans[0].FD, _ = unix.FcntlInt(uintptr(loans[0].FD), unix.F_DUPFD_CLOEXEC, 0)
	if err := b.Borrow(loans); !errors.Is(err, conn.ErrStopped) {
		t.Errorf("Borrow: %v, want ErrStopped", err)
	}
	if now := countFDs(t); now != before {
		t.Errorf("%d descriptors open, %d before", now, before)
	}
	if err := b.Beat(context.Background()); err != conn.ErrStopped {
		t.Errorf("Beat: %v, want ErrStopped", err)
	}
	b.Accept()
	b.StopAccepting()
}

func TestProtocolNamedTwice(t *testing.T) {
	if _, err := conn.New(conn.Config{Protocols: []conn.Protocol{linesProtocol(), linesProtocol()}}); err == nil {
		t.Error("two protocols of one name are accepted")
	}
}
