package crowd

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

var ping = []byte("ping")

const pong = "pong"

func resolve(addr string) (unix.Sockaddr, error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}, nil
}

// dial opens a connection in blocking mode. On the loopback that takes no time.
func dial(to unix.Sockaddr) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err == nil {
		err = unix.Connect(fd, to)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// expectPong waits for an answer on a connection in blocking mode.
func expectPong(fd int) error {
	var b [8]byte
	n, err := unix.Read(fd, b[:])
	if err != nil || string(b[:n]) != pong {
		return fmt.Errorf("want a pong, got %q (%v)", b[:n], err)
	}
	return nil
}

// visitsAtOnce is how many visitors are there at a time.
const visitsAtOnce = 64

// Visit has visitors come, ask once, and go, some at a time, until quit is closed. Each has its own source address out of 250, since the ports of one
// would be used up within seconds (a connection keeps its own for a minute after its end).
func Visit(addr string, quit <-chan struct{}, count func(n int)) error {
	to, err := resolve(addr)
	if err != nil {
		return err
	}
	fds := make([]int, 0, visitsAtOnce)
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for from := 0; ; {
		select {
		case <-quit:
			return nil
		default:
		}
		fds = fds[:0]
		for range visitsAtOnce {
			from = (from + 1) % 250
			fd, err := visit(to, byte(1+from))
			if err != nil {
				return err
			}
			fds = append(fds, fd)
		}
		for i, fd := range fds {
			if err := expectPong(fd); err != nil {
				fds = fds[i:]
				return err
			}
			unix.Close(fd)
		}
		fds = fds[:0]
		count(visitsAtOnce)
	}
}

func visit(to unix.Sockaddr, from byte) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	// The port is chosen at connect, when it has to be free only with this peer (ip(7), IP_BIND_ADDRESS_NO_PORT).
	if err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, from}})
	}
	if err == nil {
		err = unix.Connect(fd, to)
	}
	if err == nil {
		_, err = unix.Write(fd, ping)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
