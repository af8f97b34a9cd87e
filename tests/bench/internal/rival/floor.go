package rival

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"baton/conn"
	"baton/conn/ping"
	"baton/internal/mono"

	"golang.org/x/sys/unix"
)

// A Bare is package conn's server without a handoff around it: no journal, no workspace. It is what baton costs without what baton is for.
type Bare struct{ *conn.Server }

// NewBare starts one on the loopback and returns its address.
func NewBare() (*Bare, string, error) {
	s, err := conn.New(conn.Config{
		Run: 1, Protocols: []conn.Protocol{ping.Protocol()}, ReadTimeout: 10 * time.Minute, WriteTimeout: 10 * time.Minute,
	})
	if err != nil {
		return nil, "", err
	}
	l, err := s.Listen("ping://127.0.0.1:0")
	if err != nil {
		s.Close()
		return nil, "", err
	}
	s.Accept()
	return &Bare{s}, l.Addr.String(), nil
}

// The floor of a transfer: copies of all sockets are sent, many in a message, and registered with epoll by the process that gets them. No
// state travels, nothing is frozen, nothing written down, and the connections are served all the while by the process that has them.
const (
	perMessage = 252 // sockets in a message, as baton has
	unanswered = 4   // messages: the kernel limits descriptors on their way
)

// LendAll sends copies of all sessions' sockets to whoever Borrows at the path, and returns how many and how long that took: from the first
// message to the answer to the last.
func (b *Bare) LendAll(path string) (n int, ns int64, err error) {
	ids := b.IDs()
	loans := b.Lend(ids)
	defer b.Unlend(ids)
	to, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		return 0, 0, err
	}
	defer to.Close()
	began := mono.Now()
	sent, answered := 0, 0
	for at := 0; at < len(loans) || answered < sent; {
		if at < len(loans) && sent-answered < unanswered {
			fds := make([]int, 0, perMessage)
			for _, l := range loans[at:min(at+perMessage, len(loans))] {
				fds = append(fds, l.FD)
			}
			if _, _, err := to.WriteMsgUnix([]byte("lend"), unix.UnixRights(fds...), nil); err != nil {
				return 0, 0, err
			}
			at += len(fds)
			sent++
			continue
		}
		if err := expectAck(to); err != nil {
			return 0, 0, err
		}
		answered++
	}
	return len(loans), mono.Now() - began, nil
}

// BorrowAll takes sockets that come to a path, registers them as package conn does, and drops them when the sender hangs up.
func BorrowAll(path string) (*net.UnixListener, error) {
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			if err := borrowFrom(c); err != nil {
				fmt.Fprintln(os.Stderr, "borrowing:", err)
			}
			c.Close()
		}
	}()
	return ln, nil
}

func borrowFrom(c *net.UnixConn) error {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(epfd)
	var borrowed []int
	defer func() {
		for _, fd := range borrowed {
			unix.EpollCtl(epfd, unix.EPOLL_CTL_DEL, fd, nil)
			unix.Close(fd)
		}
	}()
	data, oob := make([]byte, 16), make([]byte, unix.CmsgSpace(4*perMessage))
	for {
		n, oobn, flags, _, err := c.ReadMsgUnix(data, oob)
		if n == 0 {
			return nil // hung up
		}
		if err != nil || flags&unix.MSG_CTRUNC != 0 {
			return fmt.Errorf("flags %#x, %w", flags, err)
		}
		fds, err := descriptors(oob[:oobn])
		borrowed = append(borrowed, fds...)
		if err == nil {
			err = register(epfd, fds)
		}
		if err == nil {
			_, err = c.Write([]byte("took"))
		}
		if err != nil {
			return err
		}
	}
}

func descriptors(oob []byte) ([]int, error) {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	if len(cmsgs) != 1 {
		return nil, errors.New("not one control message")
	}
	return unix.ParseUnixRights(&cmsgs[0])
}

func register(epfd int, fds []int) error {
	for _, fd := range fds {
		e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET&0xffffffff, Fd: int32(fd)}
		if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}
