package conn

import (
	"log/slog"
	"net/netip"
	"os"
	"time"

	"baton/internal/session"

	"golang.org/x/sys/unix"
)

const (
	acceptPause = 100 * time.Millisecond // after accept has failed, most likely for want of descriptors
	acceptBatch = 64                     // connections taken from a queue before sessions get a turn
)

// watchListener brings epoll in line with what was asked for. It belongs to the first loop's goroutine.
func (s *Server) watchListener(i int, l *Listener) {
	switch {
	case l.accepting && !l.watched:
		// Level-triggered: a queue that was not emptied reports itself again.
		if err := s.loops[0].watch(unix.EPOLL_CTL_ADD, l.fd, ref{slot: uint32(i + 1)}, unix.EPOLLIN); err != nil {
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

// accept takes what is in the i-th listener's queue, a bounded number at a time, and reports whether there may be more. It belongs to the
// first loop's goroutine.
func (s *Server) accept(i int) (more bool) {
	l := s.snapshotListeners()[i]
	for n := 0; l != nil && l.watched; n++ {
		if n == acceptBatch {
			return true
		}
		fd, sa, err := unix.Accept4(l.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			l.pausing = false
			s.open(l.proto, fd, addrPort(sa))
		case unix.EAGAIN:
			return false
		case unix.EINTR, unix.ECONNABORTED:
		default:
			s.pauseAccepting(i, l, err)
			return false
		}
	}
	return false
}

// pauseAccepting leaves new connections in the kernel's queue for a moment. The error is EMFILE, most likely, and whatever it is it may
// last: level-triggered, the loop would otherwise do nothing else.
func (s *Server) pauseAccepting(i int, l *Listener, err error) {
	if !l.pausing { // said once for as long as it lasts
		l.pausing = true
		s.cfg.Log.Error("accepting pauses", slog.String("listener", l.URL), slog.Any("error", os.NewSyscallError("accept4", err)),
			slog.Duration("for", acceptPause))
	}
	s.unwatchListener(l)
	time.AfterFunc(acceptPause, func() {
		s.loops[0].call(func() {
			if s.snapshotListeners()[i] == l { // else it was closed meanwhile
				s.watchListener(i, l)
			}
		})
	})
}

// open makes a session of an accepted connection. It owns fd.
func (s *Server) open(p *Protocol, fd int, peer netip.AddrPort) {
	handler, err := p.newHandler()
	if err != nil {
		s.cfg.Log.Error("connection refused", slog.String("protocol", p.Name), slog.Any("error", err))
		unix.Close(fd)
		return
	}
	n := s.counter.Add(1)
	l := s.loops[n%uint64(len(s.loops))]
	c := &Conn{loop: l, proto: p, handler: handler, id: session.MakeID(s.cfg.Run, n), fd: fd, peer: peer, opened: time.Now().UnixNano()}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.opened(c)
	switch err := l.add(c); {
	case err != nil:
		c.out.end(err)
		l.close(c, true)
	case l == s.loops[0]: // which this is
		c.restartReadTimeout(l.now, true)
		l.schedule(c)
	default:
		l.post(c) // for its read timeout
	}
}
