package conn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
	"unsafe"

	"baton/internal/mono"

	"golang.org/x/sys/unix"
)

const (
	maxRead   = 64 << 10 // bytes a turn; then the session goes to the back of the queue
	joinLimit = 64 << 10 // leftover input up to this size is joined with what is read in the loop's buffer, a larger one in its own

	slowTurn = int64(10 * time.Millisecond)
)

// turn does for a session what can be done now: send what waits, read once, serve what has come, send the answers.
func (l *loop) turn(c *Conn, events uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.input.note(events)
	switch c.phase {
	case running:
		c.flush()
	case idle:
		l.work(c)
	case moved:
		c.detach()
	}
	if c.served() {
		l.schedule(c)
		l.watchOutput(c)
	}
	l.now = mono.Now()
}

// note takes notice of what epoll says.
func (f *inputFlags) note(events uint32) {
	const beyond = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLPRI
	if events&(unix.EPOLLIN|beyond) != 0 {
		f.ready = true
	}
	if events&beyond != 0 {
		f.beyond = true
	}
}

// work is a turn of a session whose handler does not run. It wants c.mu held.
func (l *loop) work(c *Conn) {
	c.beginTurn()
	defer c.endTurn()
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
	fresh, own, err := l.read(c)
	switch {
	case err != nil:
		c.out.end(err)
		l.close(c, false)
		return
	case !fresh && !c.held:
	case c.proto.Blocking:
		c.keep(own)
		c.phase, c.readBy = running, 0 // the handler's time is not the peer's
		go l.serveBlocking(c)
		return
	default:
		l.serve(c, own)
	}
	c.restartReadTimeout(l.now, fresh)
	if c.input.ready || c.input.ended || c.held && !c.out.full.Load() {
		l.queue = append(l.queue, c)
	}
}

// read reads once, if there may be something to read and the handler has seen what there was, and reports whether it has something new
// to see. Input may then lie in the loop's buffer; own is the session's own, empty.
func (l *loop) read(c *Conn) (fresh bool, own []byte, err error) {
	own = c.in[:0]
	if !c.input.ready || c.held {
		return false, own, nil
	}
	buf, at := l.inBuf, len(c.in)
	if at > joinLimit { // in place: to copy so much in every turn would make long frames cost the square of their length
		c.in = slices.Grow(c.in, maxRead)
		own = c.in[:0]
		buf = own[:cap(own)]
	}
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(c.fd, buf[at:at+maxRead]) })
	switch {
	case err == unix.EAGAIN:
		c.input.ready, c.input.beyond = false, false
		return false, own, nil
	case err != nil:
		return false, own, sockErr("read", err)
	case n == 0:
		if err := socketError(c.fd); err != nil { // after a FIN, read does not tell of a reset
			return false, own, sockErr("read", err)
		}
		c.input.ready = false
		if c.input.eof {
			return false, own, nil // epoll tells of the end again whenever it tells anything
		}
		c.input.eof = true
	default:
		c.input.ready = n == maxRead || c.input.beyond // else it is empty: what comes now makes a new edge
	}
	if at <= joinLimit {
		copy(buf, c.in)
	}
	c.in = buf[:at+n]
	c.read += uint64(n)
	return true, own, nil
}

// keep puts what is left of the input into the session's own buffer, or into a smaller one: at rest, a session owns no more than it needs.
func (c *Conn) keep(own []byte) {
	switch {
	case len(c.in) == 0:
		c.in = nil
	case unsafe.SliceData(c.in) == unsafe.SliceData(own): // nothing was consumed of what was read in place
	case cap(own) > 4*len(c.in):
		c.in = bytes.Clone(c.in)
	default:
		c.in = append(own, c.in...)
	}
}

// serve calls the handler with its output held back until it has seen all input, then puts away what is left.
func (l *loop) serve(c *Conn, own []byte) {
	began := mono.Now()
	c.out.cork(l.outBuf)
	err := c.serveAll()
	l.now = mono.Now()
	if took := l.now - began; took > slowTurn {
		l.slow(c, took)
	}
	if err != nil {
		c.out.end(err)
	}
	if closing := c.uncork(); closing {
		c.input.ended = true
		c.in = nil
	}
	c.keep(own)
}

// serveBlocking is the goroutine of a handler that may block.
func (l *loop) serveBlocking(c *Conn) {
	own := c.in[:0]
	err := c.serveAll()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != running {
		return // the server was closed meanwhile
	}
	c.phase = idle
	if err != nil {
		c.out.end(err)
		c.input.ended = true
		c.in = nil
	}
	c.keep(own)
	c.restartReadTimeout(mono.Now(), true)
	c.endTurn()
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
		c.held = false
		before := len(c.in)
		err := c.handler.Serve(c)
		left := len(c.in)
		switch {
		case err != nil && !errors.Is(err, ErrMore):
			return err
		case c.held:
			return nil // called again when output has been taken
		case err == nil && 0 < left && left < before:
			continue
		case err == nil && left == 0 && c.input.eof:
			return nil // keeps the other direction open
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

// slow reports a handler that keeps the loop from everybody else, at most once a second.
func (l *loop) slow(c *Conn, took int64) {
	if l.now-l.slowAt < int64(time.Second) {
		return
	}
	l.slowAt = l.now
	l.srv.cfg.Log.Warn("a handler kept its loop from everybody else; if it may block, its protocol should say so (Blocking)",
		slog.String("protocol", c.proto.Name), slog.Any("session", c.id), slog.Duration("took", time.Duration(took)))
}
