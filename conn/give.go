package conn

import (
	"errors"
	"fmt"
	"io"

	"baton/internal/mono"
)

// The giver's half of a move: Lend, Freeze, then Give and Release, or Thaw and Unlend.

// A Loan is a session whose socket is being lent.
type Loan struct {
	ID     ID
	Cookie uint64 // SO_COOKIE of the socket
	FD     int    // giver: still the server's, valid until Release or Unlend; receiver: its own
	Slot   int32  // on the slate; -1 = none
}

// Lend pins the sockets of these sessions, so that copies of them can be sent, and stay ours and served. Sessions that have ended are
// left out. From here to Release or Unlend the descriptors stay open, whatever happens to the sessions. It waits for handlers that run on
// a loop.
func (s *Server) Lend(ids []ID) []Loan {
	loans := make([]Loan, 0, len(ids))
	slate, _ := s.slateNow()
	for _, c := range s.find(ids) {
		if c == nil {
			continue
		}
		c.mu.Lock()
		if c.served() {
			if cookie, err := cookie(c.fd); err == nil {
				c.loan = true
				loans = append(loans, Loan{ID: c.id, Cookie: cookie, FD: c.fd, Slot: c.mark(slate)})
			}
		}
		c.mu.Unlock()
	}
	return loans
}

// mark gives a session a slot on the slate, and notes there how far it is. It wants c.mu held.
func (c *Conn) mark(slate *Slate) (slot int32) {
	if slate == nil {
		return -1
	}
	slot = slate.take()
	c.out.mu.Lock()
	if c.slate = slate.slot(slot); c.slate != nil {
		c.slate.begin()
		c.out.turning = c.phase == running
	}
	c.out.mu.Unlock()
	c.endTurn()
	return slot
}

// Freeze stops these sessions and returns their states, with the handler's state in the version chosen for its protocol. Nobody reads or
// writes them until Thaw or Give, and Write only buffers. Those that are busy now (a handler runs, or they are frozen already), and those
// whose handler cannot be saved, go on as they are and are named. Those that have ended are in none of the lists. The states' slices are the
// sessions' own: they stay as they are until Thaw or Give. It never waits.
func (s *Server) Freeze(ids []ID, versions map[string]int) (states []State, busy []ID, failed map[ID]error) {
	now := mono.Now()
	states = make([]State, 0, len(ids))
	for i, c := range s.find(ids) {
		switch {
		case c == nil:
			continue
		case !c.mu.TryLock():
			busy = append(busy, ids[i])
			continue
		}
		switch c.phase {
		case running, frozen:
			busy = append(busy, c.id)
		case idle:
			if state, err := c.freeze(now, versions[c.proto.Name]); err == nil {
				states = append(states, state)
			} else if failed == nil {
				failed = map[ID]error{c.id: err}
			} else {
				failed[c.id] = err
			}
		}
		c.mu.Unlock()
	}
	return states, busy, failed
}

// freeze wants c.mu held.
func (c *Conn) freeze(now int64, version int) (s State, err error) {
	s = State{
		ID: c.id, Protocol: c.proto.Name, Peer: c.peer, Opened: c.opened,
		Read: c.read, In: c.in, Flags: c.flags(),
	}
	if h, ok := c.handler.(Stateful); ok {
		s.Version = version
		if s.Saved, err = save(h, version); err != nil {
			return State{}, fmt.Errorf("conn: saving %v: %w", c.id, err)
		}
	}
	c.phase = frozen
	s.ReadLeft = c.readBy.freeze(now)
	c.out.freeze(now, &s)
	return s, nil
}

func save(h Stateful, version int) (saved []byte, err error) {
	defer recoverAs(&err)
	return h.Save(version)
}

// freeze adds to s what is the output's.
func (o *output) freeze(now int64, s *State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Written, s.Out, s.WriteLeft = o.written, o.buf[:len(o.buf):len(o.buf)], o.writeBy.freeze(now)
	if o.closing {
		s.Flags |= FlagEnded
		s.Reason = reasonText(o.reason)
	}
	o.frozen, o.offered, o.told = true, len(o.buf), o.closing
}

// Thaw takes frozen sessions back: they are ours, and served, as before.
func (s *Server) Thaw(ids []ID) {
	now := mono.Now()
	for _, c := range s.find(ids) {
		if c == nil {
			continue
		}
		c.mu.Lock()
		if c.phase == frozen {
			c.resume(now)
			c.loop.post(c)
		}
		c.mu.Unlock()
	}
}

// resume makes a frozen session ours again. What epoll has said of its socket may be of before a turn that another process gave it: in its
// next turn, which the caller sees to, it reads once and, if output waits, writes once. It wants c.mu held.
func (c *Conn) resume(now int64) {
	c.input.ready, c.input.beyond = true, true
	c.unfreeze(now)
}

// unfreeze makes a frozen session ours. It wants c.mu held.
func (c *Conn) unfreeze(now int64) {
	c.phase = idle
	c.readBy.resume(now)
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frozen, o.stuck, o.offered = false, false, 0
	o.writeBy.resume(now)
}

// Give lets go of frozen sessions: from here Write returns ErrMoved. It returns what was accepted, or closed, since the Freeze, for
// those few where something was. Copies of the sockets are kept until Release.
func (s *Server) Give(ids []ID) []Late {
	var lates []Late
	given := s.find(ids)
	for i, c := range given {
		if c == nil {
			continue
		}
		c.mu.Lock()
		if c.phase != frozen {
			given[i] = nil
		} else if late, ok := c.give(); ok {
			lates = append(lates, late)
		}
		c.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range given {
		if c != nil {
			delete(s.conns, c.id)
			s.copies[c.id] = c
		}
	}
	s.noticeEmpty()
	return lates
}

// give wants c.mu held.
func (c *Conn) give() (late Late, some bool) {
	c.phase = moved // the state is kept, for Recall
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	late = Late{ID: c.id, Out: o.buf[o.offered:]}
	if o.closing && !o.told {
		late.Closed, late.Reason = true, reasonText(o.reason)
	}
	o.moved = true
	return late, len(late.Out) > 0 || late.Closed
}

// Detach has epoll forget sessions that were given, so that their clients wake nobody here. It is apart from Give because it can wait:
// until then, each of them wakes its loop once at most.
func (s *Server) Detach(ids []ID) {
	for _, c := range s.findIn(s.copies, ids) {
		if c != nil {
			c.mu.Lock()
			c.detach()
			c.mu.Unlock()
		}
	}
}

// detach wants c.mu held. The session may have been taken back meanwhile.
func (c *Conn) detach() {
	if c.phase == moved {
		c.loop.remove(c)
	}
}

// Release closes the copies that were kept of these sessions' sockets.
func (s *Server) Release(ids ...ID) {
	for _, c := range s.takeFrom(s.copies, ids) {
		c.drop()
	}
}

// Reset ends the connections of sessions that were given, and that nobody can serve any more, and closes the copies.
func (s *Server) Reset(ids []ID) {
	for _, c := range s.takeFrom(s.copies, ids) {
		abort(c.fd)
		c.drop()
	}
}

// Unlend says that no other process has a copy of these sessions' sockets any more. Those that are ours go on without it; what was kept
// of ended ones is closed. It waits for handlers that run on a loop.
func (s *Server) Unlend(ids []ID) {
	for _, c := range s.find(ids) {
		if c != nil {
			c.mu.Lock()
			c.loan = c.loan && c.phase == closed // ended just now: it is among the copies
			c.shared = false
			c.mu.Unlock()
		}
	}
	s.Release(ids...)
}

func reasonText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// textReason is the reason that reasonText wrote, as far as others compare it.
func textReason(s string) error {
	if s == "" {
		return nil
	}
	for _, known := range []error{io.EOF, io.ErrUnexpectedEOF, ErrReadTimeout, ErrWriteTimeout, ErrStopped, ErrTooLong, ErrBehind} {
		if s == known.Error() {
			return known
		}
	}
	return errors.New(s)
}
