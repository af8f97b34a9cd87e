package conn

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"baton/internal/session"

	"golang.org/x/sys/unix"
)

var (
	// ErrURL says that a listener's URL is not one.
	ErrURL = errors.New("not of the form protocol://[host]:port")
	// ErrProtocol says that no such protocol is known.
	ErrProtocol = errors.New("unknown protocol")
)

// A Listener is a listening socket. It is named by the URL it was asked for with, which need not be the address it got.
type Listener struct {
	URL  string         // protocol://host:port, as asked for
	Addr netip.AddrPort // as bound

	fd    int
	proto *Protocol

	// These belong to the first loop's goroutine.
	accepting bool // as last asked for
	watched   bool // registered with epoll: accepting, and not pausing
}

// ParseURL takes a listener's URL apart.
func ParseURL(url string) (protocol, address string, err error) {
	protocol, address, ok := strings.Cut(url, "://")
	if !ok || protocol == "" || !strings.Contains(address, ":") || strings.ContainsAny(address, "/?# ") {
		return "", "", fmt.Errorf("listener %q: %w", url, ErrURL)
	}
	return protocol, address, nil
}

// Listen opens a listener, which accepts only after Accept. The error is ErrURL, ErrProtocol or what the system said.
func (s *Server) Listen(url string) (*Listener, error) {
	protocol, address, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	if s.protocols[protocol] == nil {
		return nil, fmt.Errorf("listener %q: %w %q", url, ErrProtocol, protocol)
	}
	fd, err := listenTCP(address)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", url, err)
	}
	return s.AdoptListener(url, fd)
}

// TryListen reports whether Listen would succeed, without anybody being able to dial meanwhile.
func (s *Server) TryListen(url string) error {
	protocol, address, err := ParseURL(url)
	if err == nil && s.protocols[protocol] == nil {
		err = fmt.Errorf("%w %q", ErrProtocol, protocol)
	}
	if err == nil {
		err = tryBind(address)
	}
	if err != nil {
		return fmt.Errorf("listener %q: %w", url, err)
	}
	return nil
}

// AdoptListener makes a listener of a listening socket that another process opened. It takes ownership of fd, also when it fails.
func (s *Server) AdoptListener(url string, fd int) (*Listener, error) {
	l, err := s.newListener(url, fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listener %q: %w", url, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
	return l, nil
}

func (s *Server) newListener(url string, fd int) (*Listener, error) {
	protocol, _, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	p := s.protocols[protocol]
	if p == nil {
		return nil, fmt.Errorf("%w %q", ErrProtocol, protocol)
	}
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return nil, errors.New("not a listening socket")
	}
	addr, err := localAddr(fd)
	if err != nil {
		return nil, err
	}
	return &Listener{URL: url, Addr: addr, fd: fd, proto: p}, nil
}

// FD is the listener's socket. It stays the server's and is valid until CloseListeners.
func (l *Listener) FD() int { return l.fd }

// Listeners returns the open listeners in the order they were opened.
func (s *Server) Listeners() []*Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*Listener
	for _, l := range s.listeners {
		if l != nil {
			open = append(open, l)
		}
	}
	return open
}

// Accept has all listeners accept from now on.
func (s *Server) Accept() { s.setAccepting(true) }

// StopAccepting returns when the last accept has: every session accepted is in the books, and who dials now waits in the queue of the
// listening socket, for whoever accepts next.
func (s *Server) StopAccepting() { s.setAccepting(false) }

func (s *Server) setAccepting(on bool) {
	s.loops[0].do(func() {
		for i, l := range s.snapshotListeners() {
			if l != nil {
				l.accepting = on
				s.watchListener(i, l)
			}
		}
	})
}

func (s *Server) snapshotListeners() []*Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Listener(nil), s.listeners...)
}

// watchListener brings epoll in line with what was asked for. It belongs to the first loop's goroutine.
func (s *Server) watchListener(i int, l *Listener) {
	switch {
	case l.accepting && !l.watched:
		// Level-triggered: a queue that was not emptied reports itself again.
		if err := s.loops[0].watch(l.fd, ref{slot: uint32(i + 1)}, unix.EPOLLIN); err != nil {
			s.cfg.Log.Error("cannot accept", slog.String("listener", l.URL), slog.Any("error", err))
			return
		}
		l.watched = true
	case !l.accepting && l.watched:
		s.unwatchListener(l)
	}
}

func (s *Server) unwatchListener(l *Listener) {
	s.loops[0].unwatch(l.fd)
	l.watched = false
}

// CloseListener closes one listener: nobody can dial it any more, unless another process holds its socket.
func (s *Server) CloseListener(l *Listener) {
	s.closeListeners(func(o *Listener) bool { return o == l })
}

// CloseListeners closes all listeners.
func (s *Server) CloseListeners() { s.closeListeners(func(*Listener) bool { return true }) }

func (s *Server) closeListeners(which func(*Listener) bool) {
	s.loops[0].do(func() {
		for i, l := range s.snapshotListeners() {
			if l == nil || !which(l) {
				continue
			}
			l.accepting = false
			s.watchListener(i, l)
			unix.Close(l.fd)
			s.mu.Lock()
			s.listeners[i] = nil
			s.mu.Unlock()
		}
	})
}

// accept takes what is in the i-th listener's queue, a bounded number at a time. It belongs to the first loop's goroutine.
func (s *Server) accept(i int) {
	l := s.snapshotListeners()[i]
	for n := 0; l != nil && l.watched && n < 64; n++ {
		fd, sa, err := unix.Accept4(l.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			s.open(l.proto, fd, addrPort(sa))
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			s.pauseAccepting(i, l, err)
			return
		default:
			s.cfg.Log.Warn("accept", slog.String("listener", l.URL), slog.Any("error", os.NewSyscallError("accept4", err)))
			return
		}
	}
}

// pauseAccepting leaves new connections in the kernel's queue for a moment: level-triggered, the loop would otherwise do nothing else.
func (s *Server) pauseAccepting(i int, l *Listener, err error) {
	s.cfg.Log.Error("accepting pauses: out of a resource", slog.String("listener", l.URL), slog.Any("error", err),
		slog.Duration("for", acceptPause))
	s.unwatchListener(l)
	time.AfterFunc(acceptPause, func() {
		s.loops[0].do(func() {
			if s.snapshotListeners()[i] == l {
				s.watchListener(i, l)
			}
		})
	})
}

// open makes a session of an accepted connection. It owns fd.
func (s *Server) open(p *Protocol, fd int, peer netip.AddrPort) {
	n := s.counter.Add(1)
	l := s.loops[n%uint64(len(s.loops))]
	c := &Conn{loop: l, proto: p, handler: p.New(), id: session.MakeID(s.cfg.Run, n), fd: fd, peer: peer, opened: time.Now().UnixNano()}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.opened(c)
	if err := l.add(c); err != nil { // a new socket is writable, so the first event comes at once and starts the read timeout
		c.out.end(err)
		l.close(c, true)
	}
}
