package conn

import (
	"io"
	"net/netip"
	"sync"
	"time"

	"baton/internal/session"
)

// An ID names a session for as long as it lives, in whichever process that is.
type ID = session.ID

// phase says who may touch a session.
//
//	            Freeze            Give
//	idle ⇄ running    idle → frozen → moved      in the giver
//	                   ↑ Thaw  |
//	            Take        Own
//	lent → frozen → idle                          in the receiver
//
// A session that was given away and comes back does so in a Conn of its own, which begins as lent.
// Every phase but moved can become closed.
type phase uint8

const (
	idle    phase = iota // ours, and no handler runs
	running              // ours, and a blocking handler runs on its own goroutine
	frozen               // nobody's: input and output stand still, Write only buffers
	moved                // the receiver's; we hold a copy of the socket
	lent                 // the giver's; we hold a copy of the socket
	closed               // over
)

// A Conn is one session: a live connection and everything needed to serve it. Handlers get it with each call; others may keep it to
// Write to, and find out with ErrMoved or ErrClosed that it is no longer here.
//
// Locks are taken in this order: Conn.mu, output.mu, and then one of Server.mu and loop.mu.
type Conn struct {
	loop    *loop
	proto   *Protocol
	handler Handler
	id      ID
	fd      int // open until phase is closed, or as long as it is a loan
	ref     ref // guarded by mu
	peer    netip.AddrPort
	opened  int64 // unix ns

	// The input half, and what the loop does with it. The loop holds mu for a whole turn, a handler's call included, except while a
	// blocking handler runs: then phase is running, and in, held and what it reads of input belong to the handler's goroutine.
	mu         sync.Mutex
	in         []byte // read from the socket, not consumed; in a turn it may lie in the loop's buffer
	read       uint64 // bytes read from the socket since the session was opened
	readBy     timer  // when the read timeout strikes
	phase      phase
	held       bool // Serve was shown less than there is, since output was full: it is owed a call
	input      inputFlags
	loan       bool       // another process has, or may be receiving, a copy of the socket: the descriptor is kept until Release or Unlend
	slate      *slateSlot // where it is noted how far the session is, while another process may have to go on with it; nil = nowhere
	shared     bool       // it came from another process, which may still have a copy
	outWatched bool       // epoll watches output, as well
	timed      tick       // at which the loop's wheel will look at it; 0 = it is not in there

	out output
}

// inputFlags say how far the input is. They are guarded by Conn.mu.
type inputFlags struct {
	ready  bool // the socket may have something to read: since the last edge it has not said that it is empty
	beyond bool // a FIN, an error or urgent data may come after the input: a short read does not mean that the socket is empty
	eof    bool // the peer's FIN was read
	ended  bool // Serve is not called any more: output is flushed, then the session is closed
	shut   bool // our FIN is sent; input is read and thrown away until the peer's FIN, or for lingerTime
}

// ID is the session's name, the same in every process that serves it.
func (c *Conn) ID() ID { return c.id }

// Peer is the address of the other end.
func (c *Conn) Peer() netip.AddrPort { return c.peer }

// Protocol is the name of the protocol spoken.
func (c *Conn) Protocol() string { return c.proto.Name }

// Handler is the session's handler. Its fields belong to Serve: others synchronise with it as the handler says.
func (c *Conn) Handler() Handler { return c.handler }

// Opened is when the session was accepted, in whichever process that was.
func (c *Conn) Opened() time.Time { return time.Unix(0, c.opened) }

// Peek returns the next n bytes of input without consuming them. The slice is valid until the next Discard or the return of Serve.
// Only Serve may call it. It looks only at what has been read and never blocks. The error is
//   - ErrMore if fewer are here, or if so much output waits that the peer has to take some first (Config.HighWater);
//   - ErrTooLong if n is over the protocol's MaxFrame;
//   - at the end of the stream, io.EOF if nothing is left, or io.ErrUnexpectedEOF if too little is.
func (c *Conn) Peek(n int) ([]byte, error) {
	switch {
	case c.holdBack():
		return nil, ErrMore
	case n > c.proto.MaxFrame:
		return nil, ErrTooLong
	case n <= len(c.in):
		return c.in[:n:n], nil
	case !c.input.eof:
		return nil, ErrMore
	case len(c.in) == 0:
		return nil, io.EOF
	}
	return nil, io.ErrUnexpectedEOF
}

// Input returns all input that is here, without consuming it, for protocols whose frames are found by looking for their end. It
// returns none if so much output waits that the peer has to take some first. The slice is valid until the next Discard or the return
// of Serve. Only Serve may call it.
func (c *Conn) Input() []byte {
	if c.holdBack() {
		return nil
	}
	return c.in[:len(c.in):len(c.in)]
}

// More is what Serve returns when what Input returned holds no whole frame: ErrMore, ErrTooLong if it is as long as MaxFrame already, or at
// the end of the stream io.EOF or io.ErrUnexpectedEOF. Only Serve may call it.
func (c *Conn) More() error {
	if c.held {
		return ErrMore // Input has shown less than there is
	}
	_, err := c.Peek(len(c.in) + 1)
	return err
}

// holdBack reports whether output is above its high-water mark. The handler is then shown no input, so that it returns, and is called
// again when the peer has taken some: who asks for much at once is not behind, and must not be ended as if it were.
func (c *Conn) holdBack() bool {
	if c.out.full.Load() {
		c.held = true
	}
	return c.held
}

// Discard consumes n bytes of input, which must be there: Peek or Input has shown them. Only Serve may call it.
func (c *Conn) Discard(n int) { c.in = c.in[n:] }

// Close ends the session from any goroutine: what Write has accepted is sent, then the connection is closed. It does not wait. reason
// is told to Config.Closed; nil means an ordinary end. Closing twice, or after the session has moved, does nothing.
func (c *Conn) Close(reason error) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.endLocked(reason) {
		c.noteEndLocked()
		c.loop.post(c)
	}
}

// An Info describes a session to those who keep a record of it.
type Info struct {
	ID            ID
	Protocol      string
	Peer          netip.AddrPort
	Opened        time.Time
	Read, Written uint64 // positions: bytes read from and written to the socket since it was opened
}

// served reports whether this process serves the session now. It wants c.mu held.
func (c *Conn) served() bool { return c.phase == idle || c.phase == running }

// info wants c.mu held.
func (c *Conn) info() Info {
	return Info{ID: c.id, Protocol: c.proto.Name, Peer: c.peer, Opened: c.Opened(), Read: c.read, Written: c.out.position()}
}
