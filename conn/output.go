package conn

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"baton/internal/mono"

	"golang.org/x/sys/unix"
)

// output is the half of a session that any goroutine may use. Its lock is apart from the input's, so that a push need not wait for a
// handler, and is taken after it where both are needed. Methods whose names end in Locked want it held.
type output struct {
	mu       sync.Mutex
	buf      []byte // accepted, not yet taken by the socket; in a turn it may lie in the loop's buffer
	written  uint64 // bytes that the socket has taken since the session was opened
	offered  int    // bytes of buf that are in the state offered to another process
	writeBy  timer  // when the write timeout strikes; not running when nothing waits
	reason   error  // why the session ends; nil = ordinary, or it does not
	closing  bool   // Close was called, or the handler or a failure has ended the session: Write refuses
	told     bool   // closing is in the state offered to another process
	moved    bool   // it is the receiver's: Write refuses
	frozen   bool   // Write only buffers
	corked   bool   // a handler runs on the loop: Write only buffers, and all is sent when it has returned
	borrowed bool   // buf is the loop's
	failed   bool   // the socket is broken, or its peer was given up: nothing can be sent any more
	blamed   bool   // that has ended a session which was open until then: Write returns the reason
	turning  bool   // a turn is on, and writes to the slate when it ends
	stuck    bool   // the socket takes no more: an edge will say when it does

	full atomic.Bool // buf is above the high-water mark; written with mu held
}

// Write accepts all of p to be sent, or nothing. It never blocks, may be called from any goroutine, and does not keep p. The error is
// ErrBehind if more than Config.MaxOutput would then wait, ErrMoved, ErrClosed, or what ended the session: ErrWriteTimeout, or what the
// socket said.
func (c *Conn) Write(p []byte) (int, error) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.refusalLocked(); err != nil {
		return 0, err
	}
	if len(o.buf)+len(p) > c.loop.srv.cfg.MaxOutput {
		return 0, ErrBehind
	}
	o.buf = append(o.buf, p...)
	if o.corked || o.frozen || o.stuck { // stuck: in order behind what waits, to be sent at the edge
		o.full.Store(len(o.buf) > c.loop.srv.cfg.HighWater)
		c.noteOutputLocked()
		return len(p), nil
	}
	c.flushLocked()
	c.noteOutputLocked()
	if o.failed {
		c.loop.post(c) // to close it
		return 0, o.reason
	}
	if len(o.buf) > 0 {
		c.loop.post(c) // to time it
	}
	return len(p), nil
}

// refusalLocked is what Write returns; nil = open.
func (o *output) refusalLocked() error {
	switch {
	case o.moved:
		return ErrMoved
	case o.blamed:
		return o.reason
	case o.closing:
		return ErrClosed
	}
	return nil
}

// flush sends what waits, and reports whether output is still above its high-water mark and whether the session is to end. The session
// has to be ours.
func (c *Conn) flush() (full, closing bool) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) > 0 {
		c.flushLocked()
	}
	return o.full.Load(), o.closing
}

// flushLocked sends what the socket takes now. The session has to be ours.
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
			o.failLocked(sockErr("write", err))
			return
		}
		sent += n
		o.written += uint64(n)
	}
	o.buf = o.buf[sent:]
	if len(o.buf) == 0 {
		o.buf, o.writeBy, o.stuck = nil, 0, false
	} else if sent > 0 || o.writeBy == 0 {
		o.writeBy = startTimer(mono.Now(), c.loop.srv.cfg.WriteTimeout)
	}
	o.full.Store(len(o.buf) > c.loop.srv.cfg.HighWater)
}

// cork holds output back until uncork, in a buffer lent for the time between, so that the answers to many frames are one write.
func (o *output) cork(scratch []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.corked = true
	if len(o.buf) == 0 {
		o.buf, o.borrowed = scratch[:0], true
	}
}

// uncork sends what was held back, and reports whether the session is to end.
func (c *Conn) uncork() (closing bool) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.corked = false
	if len(o.buf) > 0 && !o.stuck {
		c.flushLocked()
	}
	if len(o.buf) == 0 {
		o.buf = nil
	} else if o.borrowed {
		o.buf = bytes.Clone(o.buf)
	}
	o.borrowed = false
	return o.closing
}

// end has Write refuse from now on, and the session end with this reason when the output so far has been sent. It reports whether the
// session was open.
func (o *output) end(reason error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.endLocked(reason)
}

func (o *output) endLocked(reason error) bool {
	if o.closing || o.moved {
		return false
	}
	o.closing, o.reason = true, reason
	return true
}

// fail drops what waits: it cannot be sent any more.
func (o *output) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failLocked(err)
}

// failLocked drops what waits, and ends the session with this reason. If it was open until then, every later Write returns it.
func (o *output) failLocked(err error) {
	o.blamed = o.blamed || !o.closing
	o.cutLocked(err)
	o.failed, o.stuck = true, false
	o.buf, o.writeBy = nil, 0
	o.full.Store(false)
}

// cut ends the session with this reason. What waits is not sent any more.
func (o *output) cut(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cutLocked(reason)
}

// cutLocked keeps the reason of a session that was ending already, unless it was ending in peace and its last output is lost.
func (o *output) cutLocked(reason error) {
	peace := o.reason == nil || errors.Is(o.reason, io.EOF)
	if !o.closing || peace && len(o.buf) > 0 {
		o.reason = reason
	}
	o.closing = true
}

// close drops what could not be sent, and returns the session's reason to end. From here no Write touches the descriptor.
func (o *output) close() (reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf, o.writeBy, o.closing = nil, 0, true
	return o.reason
}

// pending reports whether output waits to be sent, and whether it cannot be.
func (o *output) pending() (waiting, failed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) > 0, o.failed
}

// isStuck reports whether output waits until the socket takes more.
func (o *output) isStuck() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stuck
}

// unsent is the number of bytes that wait to be sent.
func (o *output) unsent() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf)
}

// position is the number of bytes that the socket has taken.
func (o *output) position() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written
}

// timer is when the write timeout strikes.
func (o *output) timer() timer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writeBy
}
