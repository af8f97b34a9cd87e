// Package ping speaks the protocol of the original demo: every "ping" is answered with "pong". There is nothing to remember between
// frames.
package ping

import (
	"errors"

	"baton/conn"
)

// Name is the protocol's name in listeners' URLs.
const Name = "ping"

// ErrFrame ends a session that sent anything else. It does not tell what: that is the peer's.
var ErrFrame = errors.New("ping: a frame is not \"ping\"")

var pong = []byte("pong")

// Protocol is the ping protocol, for conn.Config.
func Protocol() conn.Protocol {
	return conn.Protocol{Name: Name, MaxFrame: len(pong), New: func() conn.Handler { return handler{} }}
}

type handler struct{}

func (handler) Serve(c *conn.Conn) error {
	for {
		frame, err := c.Peek(4)
		if err != nil {
			return err
		}
		if string(frame) != "ping" {
			return ErrFrame
		}
		c.Discard(4)
		if _, err := c.Write(pong); err != nil {
			return err
		}
	}
}
