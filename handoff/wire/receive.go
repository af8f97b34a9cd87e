package wire

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Receive returns the next message with its descriptors, which are the caller's. If it fails, all descriptors that came are closed, and
// the channel is of no use any more. The error is
//   - io.EOF when the other side has closed the channel,
//   - ErrFrame, ErrVersion or ErrTooLarge for what is not a message of ours,
//   - the reason why the channel broke while sending, once everything that came before is received,
//   - net.ErrClosed after Close.
//
// ErrRoom is another matter: the message is here, its descriptors are not, and the channel goes on.
func (c *Channel) Receive() (m Message, descriptors []int, err error) {
	c.inHand.Store(false)
	n, oobn, flags, err := c.recvmsg()
	c.inHand.Store(err == nil && n > 0)
	if err != nil {
		return nil, nil, c.why(err)
	}
	descriptors, err = parseRights(c.oob[:oobn])
	defer func() {
		if err != nil && err != ErrRoom {
			closeAll(descriptors)
			m, descriptors = nil, nil
		}
	}()
	switch {
	case err != nil:
		return nil, descriptors, err
	case n == 0:
		return nil, descriptors, c.why(io.EOF)
	case flags&unix.MSG_TRUNC != 0:
		return nil, descriptors, fmt.Errorf("%w: frame longer than %d bytes", ErrTooLarge, len(c.in)-1)
	case flags&unix.MSG_CTRUNC != 0:
		closeAll(descriptors) // some of them may have come, and nobody knows which
		descriptors = nil
		if m, _, err = c.parse(c.in[:n], nil, true); err != nil {
			return nil, nil, err
		}
		return m, nil, ErrRoom
	}
	return c.parse(c.in[:n], descriptors, false)
}

func (c *Channel) recvmsg() (n, oobn, flags int, err error) {
	cerr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, err = unix.Recvmsg(int(fd), c.in, c.oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			// ECONNRESET says, once, that the other side closed with messages of ours unread. What it had said itself comes after it.
			if err != unix.EINTR && err != unix.ECONNRESET {
				return err != unix.EAGAIN
			}
		}
	})
	if cerr != nil {
		err = cerr
	}
	return n, oobn, flags, err
}

// why prefers the reason for which we broke the channel ourselves.
func (c *Channel) why(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil && !gone(c.err) {
		return c.err
	}
	return err
}

// parse returns the message in a frame, and those of the descriptors that belong to it, unless they were cut off. If it fails it returns
// those that are still open.
func (c *Channel) parse(frame []byte, descriptors []int, cut bool) (Message, []int, error) {
	c.mu.Lock()
	version := c.version
	c.mu.Unlock()
	h, err := parseHeader(frame, version)
	if err != nil {
		return nil, descriptors, err
	}
	payload := frame[headerSize:]
	if h.flags&flagMemfd != 0 {
		last := len(descriptors) - 1
		if last < 0 {
			return nil, nil, fmt.Errorf("%w: %v without its payload", ErrFrame, h.typ)
		}
		payload, err = readSealed(descriptors[last], int(h.length))
		unix.Close(descriptors[last])
		descriptors = descriptors[:last]
		if err != nil {
			return nil, descriptors, fmt.Errorf("%w: %v: %w", ErrFrame, h.typ, err)
		}
	}
	m, err := decode(h.typ, payload)
	if err != nil {
		return nil, descriptors, err
	}
	if got, want := len(descriptors), fds(m); got != want && !cut {
		return nil, descriptors, fmt.Errorf("%w: %v with %d descriptors, want %d", ErrFrame, h.typ, got, want)
	}
	return m, descriptors, nil
}

// parseRights returns the descriptors in a control message. The kernel has put them into our table already, whatever follows.
func parseRights(oob []byte) (descriptors []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: control message: %w", ErrFrame, err)
	}
	var errs []error
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		more, err := unix.ParseUnixRights(&messages[i])
		descriptors, errs = append(descriptors, more...), append(errs, err)
	}
	return descriptors, errors.Join(errs...)
}

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		unix.Close(fd)
	}
}
