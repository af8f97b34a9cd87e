package conn_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"baton/conn"
)

// Protocols that tests share; ping is in all servers.

type handlerFunc func(*conn.Conn) error

func (f handlerFunc) Serve(c *conn.Conn) error { return f(c) }

// lines answers each line with the line and its number, which is state.
type lines struct{ n int }

func linesProtocol() conn.Protocol {
	return conn.Protocol{Name: "lines", New: func() conn.Handler { return &lines{} }}
}

func (l *lines) Serve(c *conn.Conn) error {
	b := c.Input()
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return c.More()
	}
	l.n++
	line := fmt.Sprintf("%d %s", l.n, b[:i+1])
	c.Discard(i + 1)
	_, err := c.Write([]byte(line))
	return err
}

func (l *lines) Save(int) ([]byte, error) { return []byte{byte(l.n >> 8), byte(l.n)}, nil }

func (l *lines) Load(_ int, b []byte) error {
	if len(b) != 2 {
		return errors.New("lines: want two bytes")
	}
	l.n = int(b[0])<<8 | int(b[1])
	return nil
}

// pushes keeps its own direction open when the peer has ended its stream, and tells the test of both.
type pushes struct{ ended chan *conn.Conn }

func pushesProtocol() (conn.Protocol, chan *conn.Conn) {
	ended := make(chan *conn.Conn, 10)
	return conn.Protocol{Name: "pushes", New: func() conn.Handler { return pushes{ended} }}, ended
}

func (p pushes) Serve(c *conn.Conn) error {
	c.Discard(len(c.Input()))
	if _, err := c.Peek(1); err == io.EOF {
		p.ended <- c
	}
	return nil
}

// heldProtocol has a handler that says that it runs, waits until it is released, answers, consumes, and says that it is done.
func heldProtocol() (p conn.Protocol, runs <-chan bool, release func(), done <-chan bool) {
	running, stop, returned := make(chan bool, 10), make(chan struct{}), make(chan bool, 10)
	return conn.Protocol{Name: "held", Blocking: true, New: func() conn.Handler {
		return handlerFunc(func(c *conn.Conn) error {
			b, err := c.Peek(1)
			if err != nil {
				return err
			}
			running <- true
			<-stop
			_, err = c.Write(b)
			c.Discard(1)
			returned <- true
			return err
		})
	}}, running, sync.OnceFunc(func() { close(stop) }), returned
}

// amplifies answers each byte with many of it.
const amplified = 4 << 10

func amplifiesProtocol(blocking bool) conn.Protocol {
	return conn.Protocol{Name: "amplifies", Blocking: blocking, New: func() conn.Handler {
		return handlerFunc(func(c *conn.Conn) error {
			for {
				b, err := c.Peek(1)
				if err != nil {
					return err
				}
				if _, err := c.Write(bytes.Repeat(b, amplified)); err != nil {
					return err
				}
				c.Discard(1)
			}
		})
	}}
}
