package wire

import (
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden frames that are missing or differ")

func TestMain(m *testing.M) {
	if os.Getenv(inChild) != "" { // see TestReceiverAtItsLimit
		os.Exit(childMain())
	}
	goleak.VerifyTestMain(m)
}

// pair makes two connected channels. They are closed when the test ends, and no descriptor may be left then.
func pair(t testing.TB, timeout time.Duration) (a, b *Channel) {
	t.Helper()
	before := openFiles()
	ca, cb := sockets(t)
	a, errA := NewChannel(ca, timeout)
	b, errB := NewChannel(cb, timeout)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
		if after := openFiles(); !slices.Equal(after, before) {
			t.Errorf("descriptors before:\n%s\nand after:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	})
	return a, b
}

func sockets(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return unixConn(fds[0]), unixConn(fds[1])
}

// unixConn takes ownership of a socket.
func unixConn(fd int) *net.UnixConn {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		panic(err)
	}
	return c.(*net.UnixConn)
}

// openFiles lists this process's descriptors, but for those of the listing itself and of the runtime's poller, which come and stay.
func openFiles() (list []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "/proc/") && !strings.HasPrefix(to, "anon_inode:[event") {
			list = append(list, fmt.Sprintf("%s → %s", e.Name(), to))
		}
	}
	return list
}

// nullFDs opens n descriptors, which are closed when the test ends.
func nullFDs(t testing.TB, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		fds[i] = fd
	}
	return fds
}

// lend makes a LEND of n sessions, from id first on.
func lend(batch int, first ID, n int) *Lend {
	m := &Lend{Batch: batch}
	for i := range n {
		m.IDs, m.Cookies, m.Slots = append(m.IDs, first+ID(i)), append(m.Cookies, uint64(i)), append(m.Slots, i)
	}
	return m
}
