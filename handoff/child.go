package handoff

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A child is a successor that we have started.
type child struct {
	cmd   *exec.Cmd
	pidfd *os.File // in blocking mode: for kill and pollEnd, not for waitEnd
	tail  *tail    // of its stderr
}

// stderrFD is where a successor finds the predecessor's stderr. Its own is a pipe to the predecessor, so that the last words of a
// successor that fails can be told to whoever asked for the upgrade; it puts the real one in its place when it is safe to do so.
const stderrFD = 3

// startChild starts a program as the successor of a run. The caller calls wait, once, and closes the child's pidfd when it needs it no more.
func startChild(command []string, run int) (*child, error) {
	pidfd := -1
	c := &child{tail: &tail{also: os.Stderr}}
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", successorOf, run))
	c.cmd.Stdout, c.cmd.Stderr = os.Stdout, c.tail
	c.cmd.ExtraFiles = []*os.File{os.Stderr}
	c.cmd.WaitDelay = time.Second // a process that it has started itself may hold the pipe
	c.cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the successor cannot be started: %w", err)
	}
	if pidfd < 0 {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		return nil, fmt.Errorf("the successor cannot be started: this kernel has no pidfd, and without one it could not be fenced")
	}
	// Not pidfdFile: package os waits on a duplicate, and the O_NONBLOCK that the two share would make waitid(2) fail with EAGAIN.
	c.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	return c, nil
}

// wait returns when the child has certainly ended, and says how, with its last words. It reaps it.
func (c *child) wait() string {
	err := c.cmd.Wait()
	if c.cmd.ProcessState == nil { // it was not waited for: its end is not certain yet
		pollEnd(c.pidfd)
		return "the successor ended: " + err.Error()
	}
	how := "the successor ended: " + c.cmd.ProcessState.String()
	if words := c.tail.last(); words != "" {
		how += "; it said: " + words
	}
	return how
}

// A tail keeps the end of what is written to it, and passes everything on.
type tail struct {
	also io.Writer

	mu   sync.Mutex
	kept []byte
}

const tailSize = 2 << 10 // bytes

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, p...)
	if n := len(t.kept) - tailSize; n > 0 {
		t.kept = append(t.kept[:0], t.kept[n:]...)
	}
	t.mu.Unlock()
	t.also.Write(p)
	return len(p), nil // a broken stderr of ours is no reason to stop the child
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}

// adoptStderr gives a successor the stderr of the server in place of the pipe to its predecessor, which will not be there for ever.
func adoptStderr() {
	syscall.Dup3(stderrFD, 2, 0)
	syscall.Close(stderrFD)
}
