package wire

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A packet is a message on its way out.
type packet struct {
	frame []byte
	oob   []byte
	memfd int // ours, to be closed once it is sent; -1 = none
}

// Send sends a message, with the descriptors that belong to it. It returns at once: what the socket does not take now is queued. The
// descriptors stay the caller's and have to stay open until the channel is closed or the other side has answered.
//
// A message that cannot be sent breaks the channel, since those after it would make no sense. The error says why it is broken; nobody
// has to look at it who also Receives.
func (c *Channel) Send(m Message, descriptors ...int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	p, err := pack(c.version, m, descriptors)
	if err != nil {
		return c.fail(err)
	}
	if !c.sending { // nothing waits that this one would overtake
		switch err := c.try(p); {
		case err == nil:
			p.close()
			return nil
		case !later(err):
			p.close()
			return c.fail(err)
		}
		c.sending, c.drained = true, make(chan struct{})
		go c.sendQueue(c.drained)
	}
	c.queue = append(c.queue, p)
	return nil
}

func pack(version uint8, m Message, descriptors []int) (p packet, err error) {
	p.memfd = -1
	if want := fds(m); len(descriptors) != want || want > MaxFDs {
		return p, fmt.Errorf("%w: %v with %d descriptors, want %d of at most %d", ErrTooLarge, m.Type(), len(descriptors), want, MaxFDs)
	}
	payload, err := encode(m)
	if err != nil {
		return p, err
	}
	h := header{version: version, typ: m.Type(), length: uint32(len(payload))}
	if len(payload) > MaxInline {
		if p.memfd, err = seal(payload); err != nil {
			return p, err
		}
		h.flags, payload = flagMemfd, nil
		descriptors = append(descriptors[:len(descriptors):len(descriptors)], p.memfd)
	}
	p.frame = append(h.append(make([]byte, 0, headerSize+len(payload))), payload...)
	if len(descriptors) > 0 {
		p.oob = unix.UnixRights(descriptors...)
	}
	return p, nil
}

func (p packet) close() {
	if p.memfd >= 0 {
		unix.Close(p.memfd)
	}
}

func (p packet) send(fd int) error {
	for {
		err := unix.Sendmsg(fd, p.frame, p.oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// later reports whether a send that failed may work later: the socket is full, or too many descriptors are on their way (unix(7)).
func later(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ETOOMANYREFS) }

// try sends without waiting. RawConn.Write would be wrong here: it fails once the deadline of an earlier wait has passed.
func (c *Channel) try(p packet) (err error) {
	if cerr := c.raw.Control(func(fd uintptr) { err = p.send(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// sendQueue is the goroutine that waits where Send does not.
func (c *Channel) sendQueue(drained chan struct{}) {
	defer close(drained)
	for {
		p, ok := c.next()
		if !ok {
			return
		}
		err := c.wait(p)
		p.close()
		if err != nil {
			c.mu.Lock()
			c.fail(err)
			c.mu.Unlock()
		}
	}
}

// next takes the packet at the head of the queue. If there is none, or none can be sent any more, the goroutine that asks has to end.
func (c *Channel) next() (p packet, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		for _, p := range c.queue {
			p.close()
		}
		c.queue = nil
	}
	if len(c.queue) == 0 {
		c.queue, c.sending = nil, false
		return p, false
	}
	p, c.queue = c.queue[0], c.queue[1:]
	return p, true
}

// wait sends a packet within the timeout. The kernel says that there is room again when three quarters of what fills the socket have been
// read (unix_writable), so a reader that is alive has to manage that in the time.
func (c *Channel) wait(p packet) error {
	var end time.Time
	if c.timeout > 0 {
		end = time.Now().Add(c.timeout)
	}
	c.conn.SetWriteDeadline(end)
	for {
		var err error
		cerr := c.raw.Write(func(fd uintptr) bool {
			err = p.send(int(fd))
			return err != unix.EAGAIN
		})
		switch {
		case errors.Is(cerr, os.ErrDeadlineExceeded), cerr == nil && err == unix.ETOOMANYREFS && c.timeout > 0 && time.Now().After(end):
			return fmt.Errorf("the other side has read nothing for %v: %w", c.timeout, os.ErrDeadlineExceeded)
		case cerr != nil:
			return cerr
		case err != unix.ETOOMANYREFS:
			return err
		}
		time.Sleep(time.Millisecond) // until the other side has received some of the descriptors; nothing tells when
	}
}
