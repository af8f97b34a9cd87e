package conn

import (
	"errors"
	"fmt"
	"io"
	"time"

	"baton/internal/mono"

	"golang.org/x/sys/unix"
)

// A Loan is a session whose socket is being lent.
type Loan struct {
	ID     ID
	Cookie uint64 // SO_COOKIE of the socket
	FD     int    // giver: still the server's, valid until Release or Unlend
}

// ErrCookie says that another socket came than the one that was lent.
var ErrCookie = errors.New("conn: not the socket that was lent")

// ErrUnknown says that a session was never lent to us, or has been dropped.
var ErrUnknown = errors.New("conn: no such session on loan")

// ErrState says that a session's state cannot be taken here.
var ErrState = errors.New("conn: state cannot be taken")

// Lend pins the sockets of these sessions, so that copies of them can be sent, and stay ours and served. Sessions that have ended are
// left out. From here to Release or Unlend the descriptors stay open, whatever happens to the sessions.
func (s *Server) Lend(ids []ID) []Loan {
	loans := make([]Loan, 0, len(ids))
	for _, c := range s.find(ids) {
		if c == nil {
			continue
		}
		c.mu.Lock()
		if c.phase == idle || c.phase == running {
			if cookie, err := cookie(c.fd); err == nil {
				c.loan = true
				loans = append(loans, Loan{ID: c.id, Cookie: cookie, FD: c.fd})
			}
		}
		c.mu.Unlock()
	}
	return loans
}

// Freeze stops these sessions and returns their states, with the handler's state in the version chosen for its protocol. Those that
// are busy now, and those whose handler cannot be saved, go on and are named; those that have ended are in none of the lists.
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
		case running:
			busy = append(busy, c.id)
		case idle:
			states = append(states, State{})
			if err := c.freeze(now, versions, &states[len(states)-1]); err != nil {
				states = states[:len(states)-1]
				if failed == nil {
					failed = map[ID]error{}
				}
				failed[c.id] = err
			}
		}
		c.mu.Unlock()
	}
	return states, busy, failed
}

// freeze wants c.mu held. The state's slices are the session's own: they stay as they are until Thaw or Give.
func (c *Conn) freeze(now int64, versions map[string]int, s *State) error {
	*s = State{
		ID: c.id, Protocol: c.proto.Name, Peer: c.peer, Opened: c.opened,
		Read: c.read, In: c.in, ReadLeft: remaining(c.readBy, now), Flags: c.input.flags(),
	}
	if h, ok := c.handler.(Stateful); ok {
		var err error
		s.Version = versions[c.proto.Name]
		if s.Saved, err = save(h, s.Version); err != nil {
			return fmt.Errorf("conn: saving %v: %w", c.id, err)
		}
	}
	c.phase = frozen
	c.readLeft, c.readBy = s.ReadLeft, 0
	c.out.freeze(now, s)
	return nil
}

func save(h Stateful, version int) (saved []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %T", ErrPanic, v)
		}
	}()
	return h.Save(version)
}

func (f *inputFlags) flags() (flags Flags) {
	for _, b := range []struct {
		on   bool
		flag Flags
	}{{f.eof, FlagEOF}, {f.ended, FlagEnded}, {f.shut, FlagShut}} {
		if b.on {
			flags |= b.flag
		}
	}
	return flags
}

func (o *output) freeze(now int64, s *State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Written, s.Out, s.WriteLeft = o.written, o.buf[:len(o.buf):len(o.buf)], remaining(o.writeBy, now)
	if o.closing {
		s.Flags |= FlagEnded
		s.Reason = reasonText(o.reason)
	}
	o.frozen, o.offered, o.told = true, len(o.buf), o.closing
	o.left, o.writeBy = s.WriteLeft, 0
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

// resume makes a frozen session ours. Whatever epoll said meanwhile was said to somebody else, or ignored: it gets a turn in which it
// reads once and, if output waits, writes once. It wants c.mu held.
func (c *Conn) resume(now int64) {
	c.phase = idle
	c.input.ready, c.input.hup = true, true
	c.readBy, c.readLeft = deadline(now, c.readLeft), 0
	o := &c.out
	o.mu.Lock()
	o.frozen, o.stuck, o.full, o.offered = false, false, false, 0
	o.writeBy, o.left = deadline(now, o.left), 0
	o.mu.Unlock()
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

func (c *Conn) give() (late Late, some bool) {
	c.phase, c.in = moved, nil
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	late = Late{ID: c.id, Out: o.buf[o.offered:]}
	if o.closing && !o.told {
		late.Closed, late.Reason = true, reasonText(o.reason)
	}
	o.err, o.buf = ErrMoved, nil
	return late, len(late.Out) > 0 || late.Closed
}

// Detach has epoll forget sessions that were given, so that their clients wake nobody here. It is apart from Give because it can wait
// until the receiver has been told.
func (s *Server) Detach(ids []ID) {
	for _, c := range s.findIn(s.copies, ids) {
		if c == nil {
			continue
		}
		c.mu.Lock()
		c.loop.remove(c)
		c.mu.Unlock()
	}
}

// Release closes the copies that were kept of these sessions' sockets.
func (s *Server) Release(ids ...ID) { s.dropFrom(s.copies, ids) }

// Reset ends the connections of sessions that were given, and that nobody can serve any more, and closes the copies.
func (s *Server) Reset(ids []ID) {
	for _, c := range s.findIn(s.copies, ids) {
		if c != nil {
			abort(c.fd)
		}
	}
	s.Release(ids...)
}

// Unlend says that no other process has a copy of these sessions' sockets any more. Those that are ours go on without it; what was kept
// of ended ones is closed.
func (s *Server) Unlend(ids []ID) {
	for _, c := range s.find(ids) {
		if c != nil {
			c.mu.Lock()
			c.loan = c.loan && c.phase == closed // ended just now: it is among the copies
			c.mu.Unlock()
		}
	}
	s.Release(ids...)
}

// Borrow takes ownership of sockets that another process lends, checks that they are the right ones, and registers them with a loop,
// which ignores what happens on them until Own. If it fails, all of them are closed. FD of each loan is the receiver's descriptor.
func (s *Server) Borrow(loans []Loan) (err error) {
	borrowed := make([]*Conn, 0, len(loans))
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
		if err := c.loop.add(c); err != nil {
			return fmt.Errorf("conn: registering session %v: %w", loan.ID, err)
		}
		borrowed = append(borrowed, c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
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

// Take makes a session of a borrowed socket and its state. It stays frozen, and its socket untouched, until Own. The error is
// ErrUnknown, ErrProtocol or ErrState, and the socket stays on loan. Take owns the state's slices.
func (s *Server) Take(state *State) (err error) {
	s.mu.Lock()
	c, p := s.borrowed[state.ID], s.protocols[state.Protocol]
	s.mu.Unlock()
	switch {
	case c == nil:
		return fmt.Errorf("%w: %v", ErrUnknown, state.ID)
	case p == nil:
		return fmt.Errorf("%w %q", ErrProtocol, state.Protocol)
	case len(state.In) > p.MaxFrame+maxRead:
		return fmt.Errorf("%w: %d bytes of input, over the limit of protocol %q", ErrState, len(state.In), p.Name)
	}
	handler, err := p.load(state)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != lent && c.phase != frozen {
		return fmt.Errorf("%w: %v", ErrUnknown, state.ID)
	}
	c.restore(p, handler, state)
	return nil
}

// load makes a handler that remembers what the saved one did.
func (p *Protocol) load(state *State) (h Handler, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %T", ErrPanic, v)
		}
	}()
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
	c.in, c.read, c.readLeft = nil, s.Read, s.ReadLeft
	if len(s.In) > 0 {
		c.in = s.In
	}
	c.input = inputFlags{eof: s.Flags&FlagEOF != 0, ended: s.Flags&FlagEnded != 0, shut: s.Flags&FlagShut != 0}
	c.out.restore(s)
}

func (o *output) restore(s *State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf, o.written, o.left, o.frozen = s.Out, s.Written, s.WriteLeft, true
	if o.closing = s.Flags&FlagEnded != 0; o.closing {
		o.err, o.reason = ErrClosed, textReason(s.Reason)
	}
}

// Own makes taken sessions ours: from here they are served. lates brings what the giver accepted after the Freeze. Each session gets a
// turn on its loop, after which resumed is called with the time, on CLOCK_MONOTONIC; it must be quick. Own does not wait for that. It
// returns the number of sessions that are ours now; one that was never taken, or was dropped, is passed over.
func (s *Server) Own(ids []ID, lates []Late, resumed func(at int64)) int {
	late := map[ID]*Late{}
	for i := range lates {
		late[lates[i].ID] = &lates[i]
	}
	s.mu.Lock()
	ours := make([]*Conn, 0, len(ids))
	for _, id := range ids {
		if c := s.borrowed[id]; c != nil && c.proto != nil {
			delete(s.borrowed, id)
			s.conns[id] = c
			ours = append(ours, c)
		}
	}
	s.mu.Unlock()
	for _, c := range ours {
		c.own(late[c.id])
	}
	for _, l := range s.loops {
		l.start(ours, resumed)
	}
	return len(ours)
}

func (c *Conn) own(late *Late) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loan, c.shared = false, true
	if late == nil {
		return
	}
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, late.Out...)
	if late.Closed && !o.closing {
		o.closing, o.err, o.reason = true, ErrClosed, textReason(late.Reason)
	}
}

// start gives those of the sessions that are this loop's their first turn.
func (l *loop) start(sessions []*Conn, resumed func(at int64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, func() {
		for _, c := range sessions {
			if c.loop == l {
				c.mu.Lock()
				c.resume(l.now)
				c.mu.Unlock()
				l.turn(c, 0)
				resumed(l.now)
			}
		}
	})
	l.wakeLocked()
}

// Drop closes borrowed sockets, and forgets what was taken of their states: the giver goes on serving them, or has ended them.
func (s *Server) Drop(ids []ID) { s.dropFrom(s.borrowed, ids) }

// Held names the sessions of which we hold a copy of the socket without owning them.
func (s *Server) Held() (given, borrowed []ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return keys(s.copies), keys(s.borrowed)
}

func keys(m map[ID]*Conn) []ID {
	ids := make([]ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	return ids
}

// find returns the sessions of ours with these ids, nil where there is none.
func (s *Server) find(ids []ID) []*Conn { return s.findIn(s.conns, ids) }

func (s *Server) findIn(m map[ID]*Conn, ids []ID) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]*Conn, len(ids))
	for i, id := range ids {
		found[i] = m[id]
	}
	return found
}

func (s *Server) dropFrom(m map[ID]*Conn, ids []ID) {
	for _, c := range s.findIn(m, ids) {
		if c == nil {
			continue
		}
		c.mu.Lock()
		c.loop.remove(c)
		c.mu.Unlock()
		s.mu.Lock()
		if m[c.id] == c {
			delete(m, c.id)
			unix.Close(c.fd)
		}
		s.mu.Unlock()
	}
}

// remaining is the time left until by, for a timeout that is running; at least 1 ns, since 0 means that it is not.
func remaining(by, now int64) time.Duration {
	if by == 0 {
		return 0
	}
	return time.Duration(max(by-now, 1))
}

func reasonText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// textReason is the reason that reasonText wrote, as far as others compare it.
func textReason(s string) error {
	for _, known := range []error{io.EOF, io.ErrUnexpectedEOF, ErrReadTimeout, ErrWriteTimeout, ErrStopped, ErrTooLong} {
		if s == known.Error() {
			return known
		}
	}
	if s == "" {
		return nil
	}
	return errors.New(s)
}
