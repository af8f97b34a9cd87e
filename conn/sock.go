package conn

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listenTCP opens a listening socket with every option that accepted sockets are to inherit, so that accepting costs no further calls.
// The caller owns the descriptor.
func listenTCP(address string) (fd int, err error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		cerr := rc.Control(func(fd uintptr) { err = inheritOptions(int(fd)) })
		return firstError(cerr, err)
	}}
	// With Multipath TCP, and with urgent data kept apart, the kernel's byte counts are not those of the stream.
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return -1, err
	}
	defer ln.Close() // the copy below keeps the socket
	rc, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return -1, err
	}
	// Not File().Fd(), which would make the socket blocking for every process that shares it (golang/go#29277).
	cerr := rc.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, firstError(cerr, err)
}

// tryBind binds to an address for a moment, without listening.
func tryBind(address string) error {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return err
	}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: addr.Port}
	family := unix.AF_INET6
	if ip := addr.IP.To4(); ip != nil {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(ip)}
	} else if len(addr.IP) > 0 {
		sa.(*unix.SockaddrInet6).Addr = [16]byte(addr.IP)
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // as the net package does: connections in TIME_WAIT do not count
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

func inheritOptions(fd int) error {
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_OOBINLINE, 1},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15}, // seconds; these three are the net package's defaults
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// cookie is the kernel's own name for a socket: the same in every process that holds it, unique until the machine restarts.
func cookie(fd int) (uint64, error) {
	v, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return v, os.NewSyscallError("getsockopt SO_COOKIE", err)
}

// localAddr is the address that a socket is bound to.
func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	return addrPort(sa), nil
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// abort resets a connection at once, also when another process holds a copy of the socket: close and SO_LINGER would then do nothing,
// and shutdown would send a FIN (connect(2), AF_UNSPEC).
func abort(fd int) {
	var unspec unix.RawSockaddr
	unspec.Family = unix.AF_UNSPEC // package unix has no Sockaddr for it
	unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unsafe.Sizeof(unspec))
}

// socketError is what has happened to a socket and has not been told yet (socket(7), SO_ERROR).
func socketError(fd int) error {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return err
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}

func sockErr(op string, err error) error { return fmt.Errorf("conn: %s: %w", op, err) }

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
