package conn

import (
	"sync"
	"time"

	"baton/internal/mono"

	"golang.org/x/sys/unix"
)

// output is the half of a session that any goroutine may use. Its lock is apart from the input's, so that a push need not wait for a
// handler, and is taken after it where both are needed.
type output struct {
	mu       sync.Mutex
	buf      []byte        // accepted, not yet taken by the socket; in a turn it may lie in the loop's scratch
	written  uint64        // bytes that the socket has taken since the session was opened
	offered  int           // bytes of buf that are in the state offered to another process
	writeBy  int64         // monotonic ns at which the write timeout strikes; 0 = nothing waits
	left     time.Duration // what was left of it at the freeze
	err      error         // what Write returns; nil = open
	reason   error         // given to Close
	closing  bool          // Close was called, or the handler has ended the session
	told     bool          // closing is in the state offered to another process
	frozen   bool          // Write only buffers
	corked   bool          // a handler's turn is on: flushed at its end
	borrowed bool          // buf is the loop's
	failed   bool          // the socket is broken, or its peer was given up
	full     bool          // above the high-water mark: nothing is read until it is flushed
	stuck    bool          // the socket takes no more: an edge will say when it does
}

// Write accepts all of p to be sent, or nothing. It never blocks, may be called from any goroutine, and does not keep p. The error is
// ErrBehind, ErrMoved or ErrClosed, or what the socket said.
func (c *Conn) Write(p []byte) (int, error) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	if len(o.buf)+len(p) > c.loop.srv.cfg.MaxOutput {
		return 0, ErrBehind
	}
	o.buf = append(o.buf, p...)
	if o.corked || o.frozen {
		return len(p), nil
	}
	if o.stuck {
		return len(p), nil // in order behind what already waits; the loop flushes at the edge
	}
	c.flushLocked()
	if o.err != nil {
		c.loop.post(c) // to close it
		return 0, o.err
	}
	if len(o.buf) > 0 {
		c.loop.post(c) // to time it
	}
	return len(p), nil
}

// flushLocked sends what the socket takes now. It wants out.mu held and the session ours.
func (c *Conn) flushLocked() {
	o := &c.out
	sent := 0
	for sent < len(o.buf) {
		n, err := ignoringEINTR(func() (int, error) { return unix.Write(c.fd, o.buf[sent:]) })
		if err == unix.EAGAIN {
			o.stuck = true
			break
		}
		if err != nil {
			o.fail(sockErr("write", err))
			return
		}
		sent += n
	}
	o.written += uint64(sent)
	o.buf = o.buf[sent:]
	if len(o.buf) == 0 {
		o.buf, o.writeBy, o.stuck = nil, 0, false
	} else if sent > 0 || o.writeBy == 0 {
		o.writeBy = deadline(mono.Now(), c.loop.srv.cfg.WriteTimeout)
	}
	o.full = len(o.buf) > c.loop.srv.cfg.HighWater
}

// fail drops the output, makes every later Write return err, and ends the session with it as the reason, if it has no other.
func (o *output) fail(err error) {
	o.failed, o.full, o.stuck = true, false, false
	o.buf, o.writeBy = nil, 0
	if o.err == nil {
		o.err = err
	}
	if !o.closing {
		o.closing, o.reason = true, err
	}
}

// giveUp is fail for a peer that takes nothing.
func (o *output) giveUp(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail(err)
}

// end marks the output as closing and reports whether it was open.
func (o *output) end(reason error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || o.err != nil {
		return false
	}
	o.closing, o.reason, o.err = true, reason, ErrClosed
	return true
}

// position is the number of bytes that the socket has taken.
func (o *output) position() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written
}

// deadline is now plus timeout, or 0 for no timeout.
func deadline(now int64, timeout time.Duration) int64 {
	if timeout <= 0 {
		return 0
	}
	return now + int64(timeout)
}
