package conn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"baton/internal/mono"

	"golang.org/x/sys/unix"
)

// lingerTime is how long input is still read and thrown away after our FIN. Closing with input unread would reset the connection, and
// the reset can overtake our last answer (RFC 1122, 4.2.2.13).
const lingerTime = int64(time.Second)

// ErrPanic ends a session whose handler panicked.
var ErrPanic = errors.New("conn: handler panicked")

// turn does for a session what can be done now: send what waits, read once, serve what has come, send the answers.
func (l *loop) turn(c *Conn, events uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.input.ready = true
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.input.hup = true
	}
	switch c.phase {
	case running:
		c.flush()
	case idle:
		l.work(c)
		if c.phase == idle {
			l.schedule(c)
		}
	}
	l.now = mono.Now()
}

// work wants c.mu held and the session idle.
func (l *loop) work(c *Conn) {
	full, closing := c.flush()
	if closing {
		c.input.ended = true
	}
	switch {
	case c.input.ended:
		l.finish(c)
		return
	case full:
		c.readBy = 0 // it is we who do not read
		return
	}
	spare := c.in[:0]
	fresh, err := l.read(c)
	if err != nil {
		c.out.end(err)
		l.close(c, false)
		return
	}
	if fresh {
		if c.proto.Blocking {
			c.phase, c.in = running, bytes.Clone(c.in)
			go l.serveBlocking(c)
			return
		}
		l.serve(c, spare)
	}
	c.restartReadTimeout(l.now, fresh)
	if c.input.ready || c.input.ended {
		l.queue = append(l.queue, c)
	}
}

func (c *Conn) restartReadTimeout(now int64, fresh bool) {
	switch {
	case c.input.eof:
		c.readBy = 0
	case fresh || c.readBy == 0:
		c.readBy = deadline(now, c.loop.srv.cfg.ReadTimeout)
	}
}

// flush sends what waits, and reports whether output is above its high-water mark and whether the session is to end.
func (c *Conn) flush() (full, closing bool) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) > 0 && !o.frozen {
		c.flushLocked()
	}
	return o.full, o.closing
}

// read reads once, if there may be something to read, and reports whether the handler has anything new to see. The input may then lie
// in the loop's buffer.
func (l *loop) read(c *Conn) (fresh bool, err error) {
	if !c.input.ready || c.input.eof {
		return false, nil
	}
	buf, at := l.inBuf, len(c.in)
	if at > joinLimit {
		buf = make([]byte, at+maxRead)
	}
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(c.fd, buf[at:at+maxRead]) })
	switch {
	case err == unix.EAGAIN:
		c.input.ready, c.input.hup = false, false
		return false, nil
	case err != nil:
		return false, sockErr("read", err)
	case n == 0:
		c.input.eof, c.input.ready = true, false
	case n < maxRead && !c.input.hup:
		c.input.ready = false // empty: what comes now makes a new edge
	}
	copy(buf, c.in)
	c.in = buf[:at+n]
	c.read += uint64(n)
	return true, nil
}

// serve calls the handler with its output held back until it has seen all input, then puts away what is left. spare is a buffer of the
// session's own that may hold the rest of its input.
func (l *loop) serve(c *Conn, spare []byte) {
	c.cork(l.outBuf)
	err := c.serveAll()
	if took := mono.Now() - l.now; took > slowTurn {
		l.slow(c, took)
	}
	c.uncork()
	if err != nil {
		c.input.ended = true
		c.out.end(err)
	}
	if len(c.in) == 0 || err != nil {
		c.in = nil
	} else {
		c.in = append(spare, c.in...)
	}
}

// serveBlocking is the goroutine of a handler that may block.
func (l *loop) serveBlocking(c *Conn) {
	err := c.serveAll()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = idle
	if err != nil {
		c.input.ended = true
		c.out.end(err)
		c.in = nil
	} else {
		c.in = bytes.Clone(c.in) // the array may be much larger
	}
	c.restartReadTimeout(mono.Now(), true)
	l.post(c)
}

// serveAll calls the handler until it wants more input. It returns nil if the session goes on, else its reason to end.
func (c *Conn) serveAll() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = c.panicked(v)
		}
	}()
	for {
		before := len(c.in)
		err := c.handler.Serve(c)
		left := len(c.in)
		switch {
		case err == nil && left > 0 && left < before:
			continue
		case err == nil && c.input.eof && left == 0:
			return nil // keeps the other direction open
		case err != nil && err != ErrMore && !errors.Is(err, ErrMore):
			return err
		case c.input.eof:
			return io.ErrUnexpectedEOF
		case left > c.proto.MaxFrame+maxRead:
			return ErrTooLong // wants more without ever asking for it
		}
		return nil
	}
}

// panicked reports a handler's panic. The value is told only if it is the runtime's own: a handler's could hold payload.
func (c *Conn) panicked(v any) error {
	what := fmt.Sprintf("%T", v)
	if e, ok := v.(runtime.Error); ok {
		what = e.Error()
	}
	c.loop.srv.cfg.Log.Error("handler panicked", slog.String("protocol", c.proto.Name), slog.Any("session", c.id),
		slog.String("panic", what), slog.String("stack", string(debug.Stack())))
	return fmt.Errorf("%w: %s", ErrPanic, what)
}

// cork holds output back until uncork, in a buffer lent for the time between.
func (c *Conn) cork(scratch []byte) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.corked = true
	if len(o.buf) == 0 {
		o.buf, o.borrowed = scratch[:0], true
	}
}

func (c *Conn) uncork() {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.corked = false
	if len(o.buf) > 0 && !o.stuck {
		c.flushLocked()
	}
	if o.borrowed && len(o.buf) > 0 {
		o.buf = bytes.Clone(o.buf)
	} else if len(o.buf) == 0 {
		o.buf = nil
	}
	o.borrowed = false
}

// finish brings a session that has ended to its close: output first, then our FIN, then the peer's.
func (l *loop) finish(c *Conn) {
	c.in = nil
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
		c.input.ready, c.input.hup = true, true
		c.readBy = l.now + lingerTime
	}
	if !c.input.ready {
		return
	}
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(c.fd, l.inBuf[:maxRead]) })
	switch {
	case err == unix.EAGAIN:
		c.input.ready = false
	case err != nil || n == 0:
		c.input.eof = c.input.eof || n == 0 && err == nil
		l.close(c, false)
	default:
		c.read += uint64(n)
		l.queue = append(l.queue, c)
	}
}

// pending reports whether output waits to be sent, and whether it cannot be.
func (o *output) pending() (waiting, failed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) > 0, o.failed
}

// close ends a session of ours. Where another process may hold a copy of the socket, closing ours would tell the peer nothing, so the
// connection itself is ended.
func (l *loop) close(c *Conn, reset bool) {
	c.phase = closed
	c.in = nil
	reason := c.out.close() // from here no Write touches the descriptor
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

// close drops what could not be sent and returns the session's reason to end.
func (o *output) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf, o.writeBy = nil, 0
	if o.err == nil {
		o.err = ErrClosed
	}
	return o.reason
}

// schedule has the session looked at when the first of its timeouts can have come.
func (l *loop) schedule(c *Conn) {
	by := c.readBy
	if w := c.out.deadline(); w != 0 && (by == 0 || w < by) {
		by = w
	}
	if by != 0 && (c.timed == 0 || by < c.timed) {
		c.timed = l.wheel.add(c.ref, by)
	}
}

func (o *output) deadline() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writeBy
}

// timeout looks at a session whose time may have come.
func (l *loop) timeout(r ref) {
	c := l.find(r)
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed > l.now {
		return // an entry for a later time is in the wheel as well
	}
	c.timed = 0
	w := c.out.deadline()
	switch {
	case c.phase != idle && c.phase != running:
		return
	case w != 0 && w <= l.now:
		c.out.giveUp(ErrWriteTimeout)
		if c.phase == running {
			return // closed when the handler returns, which its next Write will tell it to
		}
		l.close(c, true)
		return
	case c.phase == running:
	case c.readBy == 0 || c.readBy > l.now:
	case c.input.shut:
		l.close(c, true)
		return
	default:
		c.out.end(ErrReadTimeout)
		l.work(c)
		if c.phase != idle {
			return
		}
	}
	l.schedule(c)
}
