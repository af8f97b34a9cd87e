package conn

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoWitness says that nobody can tell how far a session is: its socket is of a kind for which the kernel does not count, or it is over.
var ErrNoWitness = errors.New("conn: cannot be proved")

// A Witness is the kernel's count of what a process has done with a TCP socket since it was opened, whichever process that was.
type Witness struct {
	Read    uint64 // bytes taken from it
	Written uint64 // bytes put into it
	EOF     bool   // the peer's FIN was received; whether it was read nobody counts
	Shut    bool   // our FIN was sent
}

// Witness asks the kernel how far a session of ours, or one of whose socket we hold a copy, is. It needs no privilege and touches nothing.
// The error is ErrNoWitness, or ErrUnknown.
func (s *Server) Witness(id ID) (Witness, error) {
	for _, m := range []map[ID]*Conn{s.conns, s.copies, s.borrowed} {
		if c := s.findIn(m, []ID{id})[0]; c != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.phase != closed || c.loan { // else its descriptor's number may be another's by now
				return witness(c.fd, false)
			}
		}
	}
	return Witness{}, fmt.Errorf("%w: %v", ErrUnknown, id)
}

// The states of a TCP socket (include/net/tcp_states.h).
const (
	tcpEstablished = 1
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	tcpClose       = 7
	tcpCloseWait   = 8
	tcpLastAck     = 9
	tcpClosing     = 11
)

// witness puts together three counts that the kernel does not give in one: what has arrived, what of it is unread, and what was acknowledged
// or is on its way. While the peer writes they do not belong to the same moment, so it is done again until two readings of the first agree.
//
//	read    = tcpi_bytes_received − SIOCINQ − 1 if the peer's FIN was received
//	written = tcpi_bytes_acked + SIOCOUTQ − 1 if we opened the connection − 1 if our FIN was sent
//
// A FIN counts as a byte of the sequence space: the peer's in bytes_received and not in SIOCINQ (tcp_inq takes it off), ours in SIOCOUTQ and
// then in bytes_acked. So does the SYN of whoever opened the connection, in bytes_acked: opened says that it was us.
func witness(fd int, opened bool) (w Witness, err error) {
	if protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || protocol != unix.IPPROTO_TCP {
		return w, ErrNoWitness // a Unix socket, or Multipath TCP, whose counts are of other things
	}
	before, err := tcpInfo(fd)
	if err != nil {
		return w, err
	}
	for range witnessTries {
		unread, err := ioctl(fd, unix.SIOCINQ)
		if err != nil {
			return w, err
		}
		unacked, err := ioctl(fd, unix.SIOCOUTQ)
		if err != nil {
			return w, err
		}
		after, err := tcpInfo(fd)
		if err != nil {
			return w, err
		}
		if same(before, after) {
			return count(after, unread, unacked, opened)
		}
		before = after
	}
	return w, fmt.Errorf("%w: it does not hold still", ErrNoWitness)
}

const witnessTries = 1000

func tcpInfo(fd int) (*unix.TCPInfo, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoWitness, os.NewSyscallError("getsockopt TCP_INFO", err))
	}
	return info, nil
}

func ioctl(fd int, request uint) (uint64, error) {
	n, err := unix.IoctlGetInt(fd, request)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoWitness, os.NewSyscallError("ioctl", err))
	}
	return uint64(n), nil
}

func same(a, b *unix.TCPInfo) bool {
	return a.Bytes_received == b.Bytes_received && a.Bytes_acked == b.Bytes_acked && a.State == b.State
}

func count(info *unix.TCPInfo, unread, unacked uint64, opened bool) (w Witness, err error) {
	switch info.State {
	case tcpEstablished:
	case tcpFinWait1, tcpFinWait2:
		w.Shut = true
	case tcpCloseWait:
		w.EOF = true
	case tcpLastAck, tcpClosing:
		w.EOF, w.Shut = true, true
	default:
		return w, fmt.Errorf("%w: the connection is over (TCP state %d)", ErrNoWitness, info.State)
	}
	w.Read = info.Bytes_received - unread - one(w.EOF)
	w.Written = info.Bytes_acked + unacked - one(opened) - one(w.Shut)
	return w, nil
}

func one(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
