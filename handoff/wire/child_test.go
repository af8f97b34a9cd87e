package wire

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inChild, in the environment, makes this test binary the receiver of TestReceiverAtItsLimit.
const inChild = "BATON_WIRE_CHILD"

// childMain receives one message with room for too few descriptors, and says what came of it.
func childMain() int {
	c, err := NewChannel(unixConn(3), time.Second)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	openFiles() // the runtime's poller is there from here on
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
		fmt.Println(err)
		return 1
	}
	before := room()
	m, fds, err := c.Receive()
	fmt.Println(m, fds, err)
	if after := room(); after != before {
		fmt.Printf("there was room for %d descriptors, and is for %d\n", before, after)
		return 1
	}
	if err != ErrRoom || m.Type() != TLend || fds != nil {
		return 1
	}
	return 0
}

// room is how many descriptors can be opened.
func room() int {
	var fds []int
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			closeAll(fds)
			return len(fds)
		}
		fds = append(fds, fd)
	}
}

// TestReceiverAtItsLimit: the kernel drops the descriptors for which the receiver has no room, and says so only in a flag.
// The message is told all the same: a successor that has no more room can still say so.
func TestReceiverAtItsLimit(t *testing.T) {
	a, b := sockets(t)
	c, err := NewChannel(a, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := b.File()
	b.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.Send(lend(1, 1, 100), nullFDs(t, 100)...); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), inChild+"=1")
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "RLIMIT_NOFILE") {
		t.Errorf("the receiver said %q, %v", out, err)
	}
}
