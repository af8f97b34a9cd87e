package wire

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Channel carries messages between two runs. One goroutine may Receive; any may Send, and Send never waits, so that two sides that
// both have much to say cannot block each other.
//
// A channel that has failed in one direction is broken: nothing can be sent any more. But what the other side has said before is still
// received, for its last words are why.
type Channel struct {
	conn    *net.UnixConn
	raw     syscall.RawConn
	timeout time.Duration // for a message that waits to be sent; 0 = for as long as it takes
	in      []byte        // Receive's
	oob     []byte        // Receive's
	inHand  atomic.Bool   // Receive has returned something, and was not called again

	mu      sync.Mutex // guards what follows
	version uint8
	queue   []packet      // waiting, in order
	sending bool          // a goroutine works the queue off
	drained chan struct{} // closed when the last such goroutine has ended; nil = there was none
	err     error         // why nothing can be sent any more
}

// NewChannel takes ownership of a connected SOCK_SEQPACKET socket. A message that the other side leaves unread for longer than timeout
// breaks the channel; 0 = never.
func NewChannel(c *net.UnixConn, timeout time.Duration) (*Channel, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Channel{
		conn: c, raw: raw, timeout: timeout, version: Version,
		in: make([]byte, headerSize+MaxInline+1), oob: make([]byte, unix.CmsgSpace((MaxFDs+1)*4)),
	}, nil
}

// SetVersion says which version was agreed on. Frames of any other are refused from then on.
func (c *Channel) SetVersion(v uint8) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = v
}

// Unheard reports whether something has come from the other side that was not received yet, or is not done with: whoever receives has not
// asked for more.
func (c *Channel) Unheard() (yes bool) {
	c.raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(poll, 0)
		yes = n > 0
	})
	return yes || c.inHand.Load()
}

// Flush returns when everything that was sent has been taken by the socket, or cannot be.
func (c *Channel) Flush() {
	c.mu.Lock()
	drained := c.drained
	c.mu.Unlock()
	if drained != nil {
		<-drained
	}
}

// Close closes the channel and returns when nothing of it runs any more, except a Receive, which returns net.ErrClosed. What is queued
// is dropped: see Flush. Closing twice does nothing.
func (c *Channel) Close() error {
	c.mu.Lock()
	if c.err == nil {
		c.err = net.ErrClosed
	}
	err := c.conn.Close() // ends a wait for the socket, too
	c.mu.Unlock()
	c.Flush()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// fail notes why nothing can be sent any more. The socket is shut down, not closed: that has the other side know, and a Receive return,
// but only after what has come already. It wants mu held.
func (c *Channel) fail(err error) error {
	if c.err == nil {
		c.err = fmt.Errorf("wire: send: %w", err)
		c.raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
	return c.err
}

// gone reports whether an error of a socket says that the other side has closed it.
func gone(err error) bool { return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) }
