package conn

import (
	"errors"
	"flag"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

var witnessOps = flag.Int("witness-ops", 60_000, "operations on sockets that the kernel's counts are checked against (1,000,000 before a release)")

// An end is one end of a connection, with what was really done with it.
type end struct {
	fd            int
	opened        bool
	read, written atomic.Uint64
	shut, eof     bool
}

// pair makes a connection and returns its ends: the one that opened it, and the one that accepted it.
func pair(t *testing.T, address string) (ends [2]*end) {
	t.Helper()
	lfd, err := listenTCP(address)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	defer unix.Close(lfd)
	addr, err := localAddr(lfd)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := c.(*net.TCPConn).SyscallConn()
	ends[0] = &end{opened: true}
	raw.Control(func(fd uintptr) { ends[0].fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	c.Close()
	if err != nil {
		t.Fatal(err)
	}
	unix.SetsockoptInt(ends[0].fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	afd, _, err := unix.Accept4(lfd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	ends[1] = &end{fd: afd}
	return ends
}

func (e *end) write(n int) {
	if e.shut {
		return
	}
	if n, err := unix.Write(e.fd, make([]byte, n)); err == nil {
		e.written.Add(uint64(n))
	}
}

func (e *end) readSome(n int) {
	n, err := unix.Read(e.fd, make([]byte, n))
	if err == nil {
		e.read.Add(uint64(n))
		e.eof = e.eof || n == 0
	}
}

func (e *end) shutdown() {
	if !e.shut {
		e.shut = true
		unix.Shutdown(e.fd, unix.SHUT_WR)
	}
}

func (e *end) check(t *testing.T, op int) {
	t.Helper()
	w, err := witness(e.fd, e.opened)
	if errors.Is(err, ErrNoWitness) && e.shut {
		return // both FINs are through: it is over
	}
	if err != nil || w.Read != e.read.Load() || w.Written != e.written.Load() || w.Shut != e.shut {
		t.Fatalf("operation %d, opened %v: the kernel says %+v, %v; done were %d read, %d written, shut %v",
			op, e.opened, w, err, e.read.Load(), e.written.Load(), e.shut)
	}
}

// Whatever is done at either end, the kernel's counts are what was done: with input unread, with the send queue full, half-closed in either
// direction, with urgent data, opened or accepted, over IPv4 and IPv6.
func TestWitness(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, uint64(*witnessOps)))
			for op := 0; op < *witnessOps/2; {
				ends := pair(t, address)
				for range 200 + random.IntN(800) {
					op++
					e := ends[random.IntN(2)]
					switch r := random.IntN(1000); {
					case r < 450:
						e.write(1 + random.IntN(1<<random.IntN(17)))
					case r < 850:
						e.readSome(1 + random.IntN(1<<random.IntN(18)))
					case r < 853:
						e.shutdown()
					case r < 856 && !e.shut:
						if unix.Send(e.fd, []byte{1}, unix.MSG_OOB) == nil {
							e.written.Add(1)
						}
					}
					e.check(t, op)
				}
				ends[0].check(t, op)
				ends[1].check(t, op)
				unix.Close(ends[0].fd)
				unix.Close(ends[1].fd)
			}
		})
	}
}

// The counts are exact while the peer is writing, and is being acknowledged.
func TestWitnessWhilePeerWrites(t *testing.T) {
	ends := pair(t, "127.0.0.1:0")
	us, peer := ends[1], ends[0]
	defer unix.Close(us.fd)
	var stop atomic.Bool
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		defer unix.Close(peer.fd)
		for !stop.Load() {
			peer.write(1 + rand.IntN(5000))
			peer.readSome(1 + rand.IntN(5000))
			runtime.Gosched()
		}
	}()
	for op := range *witnessOps / 4 {
		us.write(1 + rand.IntN(4000))
		us.readSome(1 + rand.IntN(6000))
		us.check(t, op)
	}
	stop.Store(true)
	<-stopped
}

// Where the kernel does not count, nothing is guessed.
func TestNoWitness(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if w, err := witness(fds[0], false); !errors.Is(err, ErrNoWitness) {
		t.Errorf("Unix socket: %+v, %v", w, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if got, err := witness(int(r.Fd()), false); !errors.Is(err, ErrNoWitness) {
		t.Errorf("pipe: %+v, %v", got, err)
	}
	ends := pair(t, "127.0.0.1:0")
	unix.SetsockoptLinger(ends[0].fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(ends[0].fd)
	if got, err := witness(ends[1].fd, false); !errors.Is(err, ErrNoWitness) {
		t.Errorf("after a reset: %+v, %v", got, err)
	}
	unix.Close(ends[1].fd)
}
