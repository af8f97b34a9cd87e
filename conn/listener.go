package conn

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

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

	// These belong to the first loop's goroutine, which accepts for all.
	accepting bool // as last asked for
	watched   bool // registered with epoll: accepting, and not pausing
	pausing   bool // the last accept has failed
}

// ParseURL takes a listener's URL apart.
func ParseURL(url string) (protocol, address string, err error) {
	protocol, address, ok := strings.Cut(url, "://")
	if !ok || protocol == "" || !strings.Contains(address, ":") || strings.ContainsAny(address, "/?# ") {
		return "", "", fmt.Errorf("listener %q: %w", url, ErrURL)
	}
	return protocol, address, nil
}

// Listen opens a listener, which accepts only after Accept. The error is ErrURL, ErrProtocol, ErrStopped after Close, or what the system
// said.
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

// AdoptListener makes a listener of a listening socket that another process opened. It takes ownership of fd, also when it fails. The
// errors are those of Listen; a socket in blocking mode is refused, since the mode is every holder's and not ours to change.
func (s *Server) AdoptListener(url string, fd int) (_ *Listener, err error) {
	defer func() {
		if err != nil {
			unix.Close(fd)
			err = fmt.Errorf("listener %q: %w", url, err)
		}
	}()
	l, err := s.newListener(url, fd)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, ErrStopped
	}
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
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		return nil, errors.New("socket is in blocking mode")
	}
	addr, err := localAddr(fd)
	if err != nil {
		return nil, err
	}
	return &Listener{URL: url, Addr: addr, fd: fd, proto: p}, nil
}

// FD is the listener's socket. It stays the server's, and is valid until the listener is closed.
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

// CloseListener closes one listener, having accepted who had dialled by then: nobody can dial it any more, unless another process holds
// its socket. Whoever dials in the microseconds between the last accept and the close is reset; there is no call that does both.
func (s *Server) CloseListener(l *Listener) {
	s.closeListeners(func(i int, o *Listener) bool {
		for o == l && s.accept(i) {
		}
		return o == l
	})
}

// CloseListeners closes all listeners.
func (s *Server) CloseListeners() {
	s.closeListeners(func(int, *Listener) bool { return true })
}

// closeListeners closes those for which the function, called on the first loop's goroutine, says so.
func (s *Server) closeListeners(which func(i int, l *Listener) bool) {
	s.loops[0].do(func() {
		for i, l := range s.snapshotListeners() {
			if l == nil || !which(i, l) {
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
