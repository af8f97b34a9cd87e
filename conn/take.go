package conn

import (
	"errors"
	"fmt"
	"slices"

	"baton/internal/mono"

	"golang.org/x/sys/unix"
)

// The receiver's half of a move: Borrow, Take, then Own, or Drop.

// Errors of a move: the socket, or the state, cannot be accepted; the giver goes on serving the session.
var (
	// ErrCookie says that another socket came than the one that was lent.
	ErrCookie = errors.New("conn: not the socket that was lent")
	// ErrUnknown says that a session was never lent to us, or has been dropped.
	ErrUnknown = errors.New("conn: no such session on loan")
	// ErrState says that a session's state cannot be taken here.
	ErrState = errors.New("conn: state cannot be taken")
)

// Borrow takes ownership of sockets that another process lends, checks that they are the right ones, and registers them with a loop, which
// remembers what epoll says of them, and does nothing until Own. If it fails, all of them are closed; the error is ErrCookie, ErrStopped after
// Close, or the system's.
func (s *Server) Borrow(loans []Loan) (err error) {
	borrowed := make([]*Conn, 0, len(loans))
	slate, _ := s.slateNow()
	defer func() {
		if err != nil {
			for _, c := range borrowed {
				c.loop.remove(c)
			}
			for _, loan := range loans {
				unix.Close(loan.FD)
			}
		}
	}()
	for _, loan := range loans {
		if got, err := cookie(loan.FD); err != nil || got != loan.Cookie {
			return fmt.Errorf("%w: session %v, cookie %d, want %d (%v)", ErrCookie, loan.ID, got, loan.Cookie, err)
		}
		c := &Conn{id: loan.ID, fd: loan.FD, phase: lent, loan: true, loop: s.loops[loan.ID.N()%uint64(len(s.loops))]}
		if slate != nil {
			c.slate = slate.slot(loan.Slot)
		}
		if err := c.loop.add(c); err != nil {
			return fmt.Errorf("conn: registering session %v: %w", loan.ID, err)
		}
		borrowed = append(borrowed, c)
	}
	return s.borrow(borrowed)
}

// borrow puts all of these into the books, or none.
func (s *Server) borrow(borrowed []*Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	for i, c := range borrowed {
		if s.borrowed[c.id] != nil || s.conns[c.id] != nil {
			for _, earlier := range borrowed[:i] {
				delete(s.borrowed, earlier.id)
			}
			return fmt.Errorf("conn: session %v was lent twice", c.id)
		}
		s.borrowed[c.id] = c
	}
	return nil
}

// Take makes a session of a borrowed socket and its state, in place of what was taken before. It stays frozen, and its socket
// untouched, until Own. The session may also be one that was given away and comes back: then the copy of its socket that was kept counts as
// borrowed from here. The error is ErrUnknown, ErrProtocol or ErrState, or the system's, and the socket stays what it was. Take owns the
// state's slices.
func (s *Server) Take(state *State) error {
	s.mu.Lock()
	c, given, p := s.borrowed[state.ID], s.copies[state.ID], s.protocols[state.Protocol]
	s.mu.Unlock()
	switch {
	case c == nil && given == nil:
		return fmt.Errorf("%w: %v", ErrUnknown, state.ID)
	case p == nil:
		return fmt.Errorf("%w %q", ErrProtocol, state.Protocol)
	case len(state.In) > p.MaxFrame+2*maxRead: // a giver stops at that: a frame, what serveAll lets pass, and what was read and held back
		return fmt.Errorf("%w: %d bytes of input, over the limit of protocol %q", ErrState, len(state.In), p.Name)
	}
	handler, err := p.load(state)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if c == nil {
		if c, err = s.reborrow(given); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != lent && c.phase != frozen || !c.loan {
		return fmt.Errorf("%w: %v", ErrUnknown, state.ID) // dropped, or owned, meanwhile
	}
	c.restore(p, handler, state)
	return nil
}

// reborrow makes the copy that was kept of a session given away a borrowed socket. It gets a Conn of its own: whoever has kept the one that
// was, in order to Write to it, was told ErrMoved, and is told nothing else later.
func (s *Server) reborrow(given *Conn) (*Conn, error) {
	given.mu.Lock()
	defer given.mu.Unlock()
	if given.phase != moved {
		return nil, fmt.Errorf("%w: %v", ErrUnknown, given.id) // it ended here, or is released meanwhile
	}
	c := &Conn{id: given.id, fd: given.fd, phase: lent, loan: true, loop: given.loop, slate: given.slate}
	given.loop.remove(given)
	if err := c.loop.add(c); err != nil {
		return nil, fmt.Errorf("conn: registering session %v: %w", c.id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.copies[c.id] != given {
		c.loop.remove(c)
		return nil, fmt.Errorf("%w: %v", ErrUnknown, c.id)
	}
	delete(s.copies, c.id)
	s.borrowed[c.id] = c
	given.phase = closed // what it had is the new one's
	return c, nil
}

// load makes a handler that remembers what the saved one did.
func (p *Protocol) load(state *State) (h Handler, err error) {
	defer recoverAs(&err)
	h = p.New()
	switch st, ok := h.(Stateful); {
	case ok:
		return h, st.Load(state.Version, state.Saved)
	case len(state.Saved) > 0:
		return nil, fmt.Errorf("protocol %q keeps no state here", p.Name)
	}
	return h, nil
}

// restore wants c.mu held.
func (c *Conn) restore(p *Protocol, h Handler, s *State) {
	c.phase, c.proto, c.handler, c.peer, c.opened = frozen, p, h, s.Peer, s.Opened
	c.in, c.read, c.readBy = nil, s.Read, timer(-s.ReadLeft)
	if len(s.In) > 0 {
		c.in = s.In
	}
	c.setFlags(s.Flags)
	c.out.restore(s)
}

func (o *output) restore(s *State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf, o.written, o.writeBy, o.frozen = s.Out, s.Written, timer(-s.WriteLeft), true
	o.closing, o.reason = s.Flags&FlagEnded != 0, textReason(s.Reason)
	o.full.Store(false) // until the first flush, which finds out; a session that is taken back may have been given when it was
}

// Own makes taken sessions ours: from here they are served. lates brings what the giver accepted after the Freeze. When its loop has come to a
// session, resumed is called with the time, on CLOCK_MONOTONIC: what has come by then is served. It must be quick. Own does not wait for that.
// It returns the number of sessions that are ours now; one that was never taken, or was dropped, is passed over.
func (s *Server) Own(ids []ID, lates []Late, resumed func(at int64)) int {
	late := make(map[ID]*Late, len(lates))
	for i := range lates {
		late[lates[i].ID] = &lates[i]
	}
	ours := make([]*Conn, 0, len(ids))
	for _, c := range s.findIn(s.borrowed, ids) {
		if c != nil && s.own(c, late[c.id]) {
			ours = append(ours, c)
		}
	}
	for _, l := range s.loops {
		l.start(ours, resumed)
	}
	return len(ours)
}

// own makes a taken session ours.
func (s *Server) own(c *Conn, late *Late) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != frozen || !c.loan {
		return false // never taken, or dropped; or ours already
	}
	if late != nil {
		c.out.join(late) // before anybody here can find the session, and Write to it
	}
	if !s.enter(c) {
		return false // being dropped
	}
	c.loan, c.shared = false, true
	now := mono.Now()
	c.unfreeze(now)
	c.restartReadTimeout(now, false)
	return true
}

// enter makes a borrowed socket one of our sessions in the books.
func (s *Server) enter(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.borrowed[c.id] != c {
		return false
	}
	delete(s.borrowed, c.id)
	s.conns[c.id] = c
	return true
}

func (o *output) join(late *Late) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, late.Out...)
	if late.Closed && !o.closing {
		o.closing, o.reason = true, textReason(late.Reason)
	}
}

// start begins with those of the sessions that are this loop's.
func (l *loop) start(sessions []*Conn, resumed func(at int64)) {
	mine := slices.DeleteFunc(slices.Clone(sessions), func(c *Conn) bool { return c.loop != l })
	if len(mine) == 0 {
		return
	}
	l.call(func() {
		l.now = mono.Now()
		for _, c := range mine {
			l.begin(c)
			resumed(l.now)
		}
	})
}

// begin gives a session its first turn, or, where there is nothing to do, only looks to its timeouts.
func (l *loop) begin(c *Conn) {
	c.mu.Lock()
	rests := c.phase == idle && c.rests() // else a blocking handler runs already
	if rests {
		l.schedule(c)
	}
	c.mu.Unlock()
	if !rests {
		l.turn(c, 0)
	}
}

// rests reports whether there is nothing to do for a session. Its socket has been registered since before the state came: had there been
// anything to read, or a FIN, epoll would have said so, or is about to. It wants c.mu held.
func (c *Conn) rests() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return !c.input.ready && !c.input.ended && !c.held && len(c.out.buf) == 0 && !c.out.closing
}

// Drop closes borrowed sockets, and forgets what was taken of their states: the giver goes on serving them, or has ended them.
func (s *Server) Drop(ids []ID) {
	for _, c := range s.takeFrom(s.borrowed, ids) {
		c.drop()
	}
}
