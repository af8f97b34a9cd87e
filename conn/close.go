package conn

import (
	"time"

	"golang.org/x/sys/unix"
)

// lingerTime is how long input is still read and thrown away after our FIN. Closing with input unread would reset the connection, and
// the reset can overtake our last answer (RFC 1122, 4.2.2.13).
const lingerTime = time.Second

// finish brings a session that has ended to its close, one turn at a time: output first, then our FIN, then the peer's.
func (l *loop) finish(c *Conn) {
	c.in, c.held = nil, false
	waiting, failed := c.out.pending()
	switch {
	case failed:
		l.close(c, true)
		return
	case waiting:
		c.readBy = 0
		return
	case c.input.eof:
		l.close(c, false)
		return
	case !c.input.shut:
		unix.Shutdown(c.fd, unix.SHUT_WR)
		c.input.shut = true
		c.input.ready, c.input.beyond = true, true
		c.readBy = startTimer(l.now, lingerTime)
	}
	if !c.input.ready {
		return
	}
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(c.fd, l.inBuf[:maxRead]) })
	switch {
	case err == unix.EAGAIN:
		c.input.ready = false
	case err != nil || n == 0:
		l.close(c, false)
	default:
		c.read += uint64(n)
		l.queue = append(l.queue, c)
	}
}

// close ends a session of ours, by a reset or by what close(2) does. Where another process may hold a copy of the socket, closing ours
// would tell the peer nothing, so the connection itself is ended. It wants c.mu held. A blocking handler may run: its input stays as it
// is, and it finds out from Write.
func (l *loop) close(c *Conn, reset bool) {
	if c.phase != running {
		c.in = nil
	}
	c.phase = closed
	reason := c.out.close()
	l.remove(c)
	switch {
	case reset:
		abort(c.fd)
	case c.loan || c.shared:
		unix.Shutdown(c.fd, unix.SHUT_RDWR)
	}
	if !c.loan {
		unix.Close(c.fd)
	}
	l.srv.ended(c, reason)
}

// abandon resets a session, whatever it is at, because the server stops. One that is frozen may be another process's by now: only our
// descriptor is closed.
func (l *loop) abandon(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.served():
		c.out.cut(ErrStopped)
		l.close(c, true)
	case c.phase == frozen:
		l.leave(c)
	}
}

// leave closes our descriptor of a session, and does nothing to the connection. It wants c.mu held.
func (l *loop) leave(c *Conn) {
	c.phase = closed
	c.out.close()
	l.remove(c)
	unix.Close(c.fd)
	l.srv.forget(c)
}
