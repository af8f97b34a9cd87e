package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Channel carries messages between two runs. One goroutine may Receive; any may Send, and Send never waits, so that two sides that
// both have much to say cannot block each other.
type Channel struct {
	conn    *net.UnixConn
	raw     syscall.RawConn
	timeout time.Duration // for a message that waits to be sent
	buf     []byte        // Receive's
	oob     []byte

	mu      sync.Mutex // guards what follows
	version uint8
	queue   []packet // waiting, in order
	sending bool     // a goroutine is at the queue
	err     error    // why nothing can be sent any more
	idle    sync.WaitGroup
}

type packet struct {
	frame []byte
	oob   []byte
	memfd int // ours, to be closed once it is sent; -1 = none
}

// NewChannel takes ownership of a connected SOCK_SEQPACKET socket. A message that the other side leaves unread for longer than timeout
// breaks the channel.
func NewChannel(c *net.UnixConn, timeout time.Duration) (*Channel, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Channel{
		conn: c, raw: raw, timeout: timeout, version: Version,
		buf: make([]byte, headerSize+MaxInline+1), oob: make([]byte, unix.CmsgSpace((MaxFDs+1)*4)),
	}, nil
}

// SetVersion says which version was agreed on. Frames of any other are refused from then on.
func (c *Channel) SetVersion(v uint8) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = v
}

// Send sends a message, with the descriptors that belong to it. It returns at once: what the socket does not take now is queued. The
// descriptors stay the caller's and have to stay open until the channel is closed or the other side has answered. The error is
// ErrTooLarge, or why the channel is broken.
func (c *Channel) Send(m Message, fdList ...int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	p, err := c.pack(m, fdList)
	if err != nil {
		return err
	}
	if c.sending {
		c.queue = append(c.queue, p)
		return nil
	}
	switch err := c.try(p); {
	case err == nil:
		p.close()
		return nil
	case !retry(err):
		p.close()
		return c.fail(err)
	}
	c.queue, c.sending = append(c.queue, p), true
	c.idle.Add(1)
	go c.sendQueue()
	return nil
}

func (c *Channel) pack(m Message, fdList []int) (p packet, err error) {
	p.memfd = -1
	payload, err := encoding.Marshal(m)
	if err != nil {
		return p, fmt.Errorf("wire: encoding %v: %w", m.Type(), err)
	}
	if len(payload) > MaxPayload || len(fdList) != fds(m) || len(fdList) > MaxFDs {
		return p, fmt.Errorf("%w: %v of %d bytes, %d descriptors", ErrTooLarge, m.Type(), len(payload), len(fdList))
	}
	h := header{version: c.version, typ: m.Type(), length: uint32(len(payload))}
	if len(payload) > MaxInline {
		if p.memfd, err = seal(payload); err != nil {
			return p, err
		}
		h.flags, payload = flagMemfd, nil
		fdList = append(fdList[:len(fdList):len(fdList)], p.memfd)
	}
	p.frame = append(h.append(make([]byte, 0, headerSize+len(payload))), payload...)
	if len(fdList) > 0 {
		p.oob = unix.UnixRights(fdList...)
	}
	return p, nil
}

func (p packet) close() {
	if p.memfd >= 0 {
		unix.Close(p.memfd)
	}
}

// try sends without waiting.
func (c *Channel) try(p packet) (err error) {
	cerr := c.raw.Write(func(fd uintptr) bool {
		err = sendmsg(int(fd), p)
		return true
	})
	return errors.Join(cerr, err)
}

func sendmsg(fd int, p packet) error {
	for {
		err := unix.Sendmsg(fd, p.frame, p.oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// retry reports whether a failed send may work later: the socket is full, or too many descriptors are on their way (unix(7)).
func retry(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ETOOMANYREFS) }

// sendQueue is the goroutine that waits where Send does not.
func (c *Channel) sendQueue() {
	defer c.idle.Done()
	for {
		c.mu.Lock()
		if len(c.queue) == 0 || c.err != nil {
			c.dropQueue()
			c.mu.Unlock()
			return
		}
		p := c.queue[0]
		c.queue = c.queue[1:]
		c.mu.Unlock()
		if err := c.wait(p); err != nil {
			c.mu.Lock()
			c.fail(err)
			c.mu.Unlock()
		}
		p.close()
	}
}

// wait sends a packet within the timeout.
func (c *Channel) wait(p packet) error {
	end := time.Now().Add(c.timeout)
	c.conn.SetWriteDeadline(end)
	for {
		var err error
		cerr := c.raw.Write(func(fd uintptr) bool {
			err = sendmsg(int(fd), p)
			return err != unix.EAGAIN
		})
		if err != unix.ETOOMANYREFS || cerr != nil || time.Now().After(end) {
			if errors.Is(cerr, os.ErrDeadlineExceeded) {
				return fmt.Errorf("wire: the other side has read nothing for %v", c.timeout)
			}
			return errors.Join(cerr, err)
		}
		time.Sleep(time.Millisecond) // until the other side has received some of the descriptors
	}
}

// dropQueue and fail want mu held.
func (c *Channel) dropQueue() {
	for _, p := range c.queue {
		p.close()
	}
	c.queue, c.sending = nil, false
}

func (c *Channel) fail(err error) error {
	if c.err == nil {
		c.err = fmt.Errorf("wire: send: %w", err)
		c.conn.Close() // has Receive return, too
	}
	return c.err
}

// Receive returns the next message with its descriptors, which are the caller's. The error is io.EOF when the other side has closed the
// channel, ErrFrame, ErrVersion or ErrTooLarge for what is not a message of ours, in which case all descriptors that came are closed.
func (c *Channel) Receive() (m Message, fdList []int, err error) {
	var n, oobn, flags int
	cerr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, err = unix.Recvmsg(int(fd), c.buf, c.oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if cerr != nil || err != nil {
		return nil, nil, c.whyClosed(errors.Join(cerr, err))
	}
	fdList, err = parseRights(c.oob[:oobn])
	defer func() {
		if err != nil {
			closeAll(fdList)
			fdList = nil
		}
	}()
	switch {
	case err != nil:
		return nil, nil, err
	case n == 0:
		return nil, nil, c.whyClosed(io.EOF)
	case flags&unix.MSG_TRUNC != 0:
		return nil, nil, fmt.Errorf("%w: frame longer than %d bytes", ErrTooLarge, len(c.buf))
	case flags&unix.MSG_CTRUNC != 0:
		return nil, nil, fmt.Errorf("%w: descriptors were dropped, the limit is reached (RLIMIT_NOFILE)", ErrFrame)
	}
	m, fdList, err = c.parse(c.buf[:n], fdList)
	return m, fdList, err
}

// whyClosed prefers the reason why we closed the channel ourselves.
func (c *Channel) whyClosed(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if errors.Is(err, unix.ECONNRESET) { // closed with messages of ours unread
		return io.EOF
	}
	return err
}

func (c *Channel) parse(frame []byte, fdList []int) (Message, []int, error) {
	h, err := parseHeader(frame)
	if err != nil {
		return nil, fdList, err
	}
	c.mu.Lock()
	version := c.version
	c.mu.Unlock()
	if h.version != version && !timeless(h.typ) {
		return nil, fdList, fmt.Errorf("%w: %v of version %d, agreed on %d", ErrVersion, h.typ, h.version, version)
	}
	payload := frame[headerSize:]
	if h.flags&flagMemfd != 0 {
		if len(fdList) == 0 {
			return nil, fdList, fmt.Errorf("%w: %v without its payload", ErrFrame, h.typ)
		}
		last := len(fdList) - 1
		if payload, err = readSealed(fdList[last], int(h.length)); err != nil {
			return nil, fdList, fmt.Errorf("%w: %v: %w", ErrFrame, h.typ, err)
		}
		unix.Close(fdList[last])
		fdList = fdList[:last]
	}
	m, err := decode(h.typ, payload)
	if err == nil && len(fdList) != fds(m) {
		err = fmt.Errorf("%w: %v with %d descriptors, want %d", ErrFrame, h.typ, len(fdList), fds(m))
	}
	return m, fdList, err
}

func parseRights(oob []byte) (fdList []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: control message: %w", ErrFrame, err)
	}
	for i := range messages {
		if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fdList = append(fdList, more...)
		}
	}
	return fdList, nil
}

// Close breaks the channel and returns when nothing of it runs any more, except a Receive, which returns an error.
func (c *Channel) Close() error {
	c.mu.Lock()
	if c.err == nil {
		c.err = net.ErrClosed
	}
	err := c.conn.Close()
	c.mu.Unlock()
	c.idle.Wait()
	return err
}

// Flush returns when everything that was sent has been taken by the socket, or cannot be.
func (c *Channel) Flush() { c.idle.Wait() }

// File-descriptor helpers.

func closeAll(fdList []int) {
	for _, fd := range fdList {
		unix.Close(fd)
	}
}

const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK

// seal puts a payload into a memfd that nobody can change any more.
func seal(payload []byte) (fd int, err error) {
	fd, err = unix.MemfdCreate("baton", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	for rest := payload; len(rest) > 0 && err == nil; {
		var n int
		n, err = unix.Write(fd, rest)
		rest = rest[max(n, 0):]
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("wire: payload of %d bytes into a memfd: %w", len(payload), err)
	}
	return fd, nil
}

// readSealed reads a payload whose size is known. It trusts neither the size nor that the sender lets it be.
func readSealed(fd, size int) ([]byte, error) {
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals {
		return nil, errors.New("payload is not a sealed memfd")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size != int64(size) {
		return nil, fmt.Errorf("payload has %d bytes, not %d", st.Size, size)
	}
	payload := make([]byte, size)
	for at := 0; at < size; {
		n, err := unix.Pread(fd, payload[at:], int64(at))
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("payload cannot be read: %w", err)
		}
		at += n
	}
	return payload, nil
}
