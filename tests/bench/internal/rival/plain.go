// Package rival holds what baton is measured against: a plain server with a goroutine for each connection, the common ways to move such
// connections to another process, and the floor below which no way that sends sockets can get. Each is written as well as it can be
// without giving up what makes it what it is.
package rival

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"baton/internal/mono"
)

// A Plain is the server that one would write: a goroutine for each connection, which reads a frame and answers it.
type Plain struct {
	buffered bool // through package bufio, with its default sizes
	ln       net.Listener

	mu      sync.Mutex
	conns   map[*plainConn]struct{}
	serving sync.WaitGroup
}

// A plainConn is one connection, with its goroutine.
type plainConn struct {
	*net.TCPConn
	pending []byte        // of half a frame, when the goroutine has stopped
	stopped chan struct{} // closed when it has
}

// NewPlain makes a server without a listener.
func NewPlain(buffered bool) *Plain {
	return &Plain{buffered: buffered, conns: map[*plainConn]struct{}{}}
}

// Listen opens a listener on the loopback, serves what comes, and returns the address.
func (p *Plain) Listen() (addr string, err error) {
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false) // as baton; it makes plain TCP slower
	if p.ln, err = lc.Listen(context.Background(), "tcp4", "127.0.0.1:0"); err != nil {
		return "", err
	}
	go func() {
		for {
			c, err := p.ln.Accept()
			if err != nil {
				return
			}
			p.serve(c.(*net.TCPConn), nil, 0)
		}
	}()
	return p.ln.Addr().String(), nil
}

// serve starts a connection's goroutine. If it came from another process, it has stood still since stoppedAt, and resumed, which is told
// how long that was, is called when it reads again.
func (p *Plain) serve(c *net.TCPConn, pending []byte, stoppedAt int64, resumed ...func(ns int64)) {
	pc := &plainConn{TCPConn: c, pending: pending, stopped: make(chan struct{})}
	p.mu.Lock()
	p.conns[pc] = struct{}{}
	p.mu.Unlock()
	p.serving.Add(1)
	go func() {
		defer p.serving.Done()
		for _, f := range resumed {
			f(mono.Now() - stoppedAt)
		}
		p.talk(pc)
	}()
}

// talk returns when the connection has ended, or is to be moved.
func (p *Plain) talk(c *plainConn) {
	defer close(c.stopped)
	var err error
	if p.buffered {
		err = c.talkBuffered()
	} else {
		err = c.talkBare()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return // whoever has set the deadline goes on
	}
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.TCPConn.Close()
}

// talkBare has one small buffer for input and output.
func (c *plainConn) talkBare() error {
	var buf [64]byte
	have := copy(buf[:], c.pending)
	for {
		n, err := c.Read(buf[have:])
		have += n
		whole := have / 4 * 4
		for at := 0; at < whole; at += 4 {
			if string(buf[at:at+4]) != "ping" {
				return errFrame
			}
			copy(buf[at:], "pong")
		}
		if whole > 0 {
			if _, err := c.Write(buf[:whole]); err != nil {
				return err
			}
			have = copy(buf[:], buf[whole:have])
		}
		if err != nil {
			c.pending = append([]byte(nil), buf[:have]...)
			return err
		}
	}
}

// talkBuffered is what most programs have.
func (c *plainConn) talkBuffered() error {
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	var frame [4]byte
	for {
		if _, err := io.ReadFull(r, frame[:]); err != nil {
			return err
		}
		if string(frame[:]) != "ping" {
			return errFrame
		}
		w.WriteString("pong")
		if r.Buffered() == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
}

var errFrame = errors.New("not a ping")

// all are the connections there are.
func (p *Plain) all() []*plainConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := make([]*plainConn, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	return conns
}

// stop has a connection's goroutine end, and returns when it has.
func (c *plainConn) stop() error {
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return fmt.Errorf("stopping a connection: %w", err)
	}
	<-c.stopped
	return nil
}
