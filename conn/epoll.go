package conn

import (
	"os"

	"golang.org/x/sys/unix"
)

// A ref is what an epoll event carries: where the loop finds the session. An event of another generation is of a session that is gone.
// Generation 0 is that of listeners, and of the loop's own eventfd, which has slot 0; a session's zero ref means that it is not
// registered.
type ref struct{ slot, gen uint32 }

// A slot holds a session that is registered with epoll. The generation tells its events from those of the slot's earlier tenants.
type slot struct {
	conn *Conn
	gen  uint32
}

// Input is watched edge-triggered, so that nothing has to be changed in epoll as it comes and goes, and so is output from when the socket took
// no more for the first time: from the start, every new session would wake its loop to say that it can be written to.
// EPOLLPRI tells of urgent data: a read ends in front of it though more is there (tcp(7), SO_OOBINLINE).
const (
	inputEvents   = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET&0xffffffff
	sessionEvents = inputEvents | unix.EPOLLOUT
)

// add registers a session. It wants c.mu held, or c unknown to others. The error is ErrStopped or the system's.
func (l *loop) add(c *Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop {
		return ErrStopped
	}
	if len(l.free) == 0 {
		l.free = append(l.free, uint32(len(l.slots)))
		l.slots = append(l.slots, slot{})
	}
	at := l.free[len(l.free)-1]
	s := &l.slots[at]
	if s.gen++; s.gen == 0 {
		s.gen = 1
	}
	r := ref{at, s.gen}
	if err := l.watch(unix.EPOLL_CTL_ADD, c.fd, r, inputEvents); err != nil {
		return err
	}
	l.free = l.free[:len(l.free)-1]
	s.conn, c.ref, c.outWatched = c, r, false
	c.timed = 0 // what the wheel has is of an earlier ref
	return nil
}

// remove takes a session out, if it is in. It wants c.mu held. It comes before the close of the socket, always: while another process
// holds that, close leaves the registration behind, and it can then not be removed any more.
func (l *loop) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.ref == (ref{}) {
		return
	}
	if !l.stop {
		l.unwatch(c.fd)
	}
	l.slots[c.ref.slot].conn = nil
	l.free = append(l.free, c.ref.slot)
	c.ref = ref{}
}

// find returns the session that r was given to, or nil if it is gone.
func (l *loop) find(r ref) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := &l.slots[r.slot]; s.gen == r.gen {
		return s.conn
	}
	return nil
}

// watchOutput has epoll tell when a socket that is stuck can be written to again, if it can only now as well. It wants c.mu held.
func (l *loop) watchOutput(c *Conn) {
	if c.outWatched || !c.out.isStuck() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stop {
		c.outWatched = l.watch(unix.EPOLL_CTL_MOD, c.fd, c.ref, sessionEvents) == nil
	}
}

func (l *loop) watch(op, fd int, r ref, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(r.slot), Pad: int32(r.gen)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epfd, op, fd, &e))
}

func (l *loop) unwatch(fd int) { unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, fd, nil) }
