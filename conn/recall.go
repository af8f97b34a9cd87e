package conn

import (
	"fmt"

	"baton/internal/mono"

	"golang.org/x/sys/unix"
)

// What the survivor of a crash does with the sessions that the other process served, or was about to. It has copies of their sockets, the
// slate, and the states that were offered before. A session goes on only from a state whose positions are those of the kernel's count.

// A Verdict says what became of a session whose process has died.
type Verdict struct {
	ID     ID
	Kept   bool   // it is ours, and served
	By     string // what proved it: "slate" or "state"
	Reason string // why it was not kept
	Info   Info   // with the positions known; zero where nothing was
	Kernel Witness
}

// Recall takes back sessions that were given to a process which has certainly ended, also those that were on their way back. Those that
// cannot be proved are reset. Config.Opened and Config.Closed are told of none.
func (s *Server) Recall(ids []ID) []Verdict {
	return append(s.judge(s.takeFrom(s.copies, ids)), s.judge(s.takeFrom(s.borrowed, ids))...)
}

// Rescue makes ours what a process which has certainly ended had lent, or offered, and not given. Those that cannot be proved are reset.
// Config.Opened and Config.Closed are told of none.
func (s *Server) Rescue(ids []ID) []Verdict { return s.judge(s.takeFrom(s.borrowed, ids)) }

func (s *Server) judge(sessions []*Conn) []Verdict {
	verdicts := make([]Verdict, 0, len(sessions))
	for _, c := range sessions {
		v := c.judge()
		if !v.Kept {
			abort(c.fd)
			c.drop()
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// judge makes a session ours if it can be proved.
func (c *Conn) judge() (v Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v.ID = c.id
	if c.phase == closed {
		v.Reason = "it had ended"
		return v
	}
	kernel, err := witness(c.fd, false)
	if err != nil {
		v.Reason = err.Error()
		return v
	}
	v.Kernel = kernel
	if v.By, err = c.prove(kernel); err == nil {
		err = c.reclaim()
	}
	if c.proto != nil {
		v.Info = c.info()
	}
	if err != nil {
		v.Reason = err.Error()
		return v
	}
	v.Kept = true
	return v
}

// prove brings the session to a state that the kernel confirms: what the slate says, since it is the newer, or else what was offered, unless
// the slate knows of output that came after it.
func (c *Conn) prove(kernel Witness) (by string, err error) {
	m, unwritten := c.marked()
	switch known := c.phase == moved || c.phase == frozen; {
	case unwritten == nil && m.read == kernel.Read && m.written == kernel.Written && m.unsent == 0:
		return "slate", c.restoreMark(m)
	case known && c.read == kernel.Read && c.out.position() == kernel.Written && int(m.unsent) <= c.out.unsent():
		return "state", nil
	case m.unsent > 0:
		return "", fmt.Errorf("%d bytes of output were lost with the process", m.unsent)
	case unwritten == nil:
		return "", fmt.Errorf("read %d and written %d, but the slate says %d and %d", kernel.Read, kernel.Written, m.read, m.written)
	case known:
		return "", fmt.Errorf("read %d and written %d, but the state says %d and %d, and of the slate: %w",
			kernel.Read, kernel.Written, c.read, c.out.position(), unwritten)
	}
	return "", unwritten
}

func (c *Conn) marked() (mark, error) {
	if c.slate == nil {
		return mark{}, fmt.Errorf("it had no place on the slate")
	}
	return c.slate.look(c.id)
}

// restoreMark makes the session what the slate says.
func (c *Conn) restoreMark(m mark) error {
	s := c.loop.srv
	p := s.protocols[m.proto]
	if p == nil {
		return fmt.Errorf("%w %q", ErrProtocol, m.proto)
	}
	h, err := p.load(&State{Version: m.version, Saved: m.saved})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if c.proto == nil { // it was never offered: the rest is the socket's
		if sa, err := unix.Getpeername(c.fd); err == nil {
			c.peer = addrPort(sa)
		}
	}
	c.restore(p, h, &State{
		Peer: c.peer, Opened: m.opened, Read: m.read, Written: m.written, In: m.in, Flags: m.flags &^ slateTooLarge,
		ReadLeft: s.cfg.ReadTimeout, // the slate does not tell how much of it is left
	})
	return nil
}

// reclaim puts the session into the books as ours, and has its loop give it a turn.
func (c *Conn) reclaim() error {
	s := c.loop.srv
	if c.ref == (ref{}) { // it was detached since it was given
		if err := c.loop.add(c); err != nil {
			return err
		}
	}
	c.loan, c.shared = false, false
	c.out.mu.Lock()
	c.out.moved = false
	c.out.mu.Unlock()
	s.mu.Lock()
	s.conns[c.id] = c
	s.mu.Unlock()
	c.resume(mono.Now())
	c.loop.post(c)
	return nil
}

// The slate, as the server whose sessions write to it uses it.

// UseSlate has sessions that are lent or borrowed from now on write to a slate, with handlers' states in these versions; nil ends that for
// all sessions, after which nobody here uses the slate that was. The slate stays the caller's.
func (s *Server) UseSlate(slate *Slate, versions map[string]int) {
	s.mu.Lock()
	s.slate, s.slateVersions = slate, versions
	s.mu.Unlock()
	if slate != nil {
		return
	}
	for _, m := range []map[ID]*Conn{s.conns, s.copies, s.borrowed} {
		for _, c := range s.list(m) {
			c.mu.Lock()
			c.out.mu.Lock()
			c.slate = nil
			c.out.mu.Unlock()
			c.mu.Unlock()
		}
	}
}

func (s *Server) list(m map[ID]*Conn) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Conn, 0, len(m))
	for _, c := range m {
		all = append(all, c)
	}
	return all
}

func (s *Server) slateNow() (*Slate, map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slate, s.slateVersions
}

// beginTurn says on the slate that what it says does not hold until endTurn. It wants c.mu held.
func (c *Conn) beginTurn() {
	if c.slate == nil {
		return
	}
	c.out.mu.Lock()
	c.out.turning = true
	c.slate.begin()
	c.out.mu.Unlock()
}

// endTurn writes to the slate where the session stands, if it is at rest. It wants c.mu held.
func (c *Conn) endTurn() {
	if c.slate == nil || c.phase != idle {
		return
	}
	m := mark{proto: c.proto.Name, read: c.read, opened: c.opened, flags: c.flags(), in: c.in}
	if h, ok := c.handler.(Stateful); ok {
		_, versions := c.loop.srv.slateNow()
		var err error
		m.version = versions[c.proto.Name]
		if m.saved, err = save(h, m.version); err != nil {
			return // it stays torn: nothing can be proved of a state that cannot be saved
		}
	}
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turning = false
	if o.closing {
		m.flags |= FlagEnded
	}
	c.slate.begin()
	c.slate.put(c.id, m)
	c.slate.putOutput(o.written, len(o.buf))
	c.slate.end()
}

// noteOutputLocked writes to the slate what a Write outside of a turn has done. The session may be frozen: what it says there until the other
// process has had it for a turn is ours to say. What was torn when it came here stays so until its first turn.
func (c *Conn) noteOutputLocked() {
	if c.slate == nil || c.out.turning || c.slate.torn() {
		return
	}
	c.slate.begin()
	c.slate.putOutput(c.out.written, len(c.out.buf))
	c.slate.end()
}

// noteEndLocked writes to the slate that Close was called outside of a turn.
func (c *Conn) noteEndLocked() {
	if c.slate == nil || c.out.turning || c.slate.torn() {
		return
	}
	c.slate.begin()
	c.slate.flags |= FlagEnded
	c.slate.end()
}
