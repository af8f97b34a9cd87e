package handoff

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
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
	c := &child{tail: newTail(os.Stderr)}
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", successorOf, run))
	c.cmd.Stdout, c.cmd.Stderr = os.Stdout, c.tail
	c.cmd.ExtraFiles = []*os.File{os.Stderr}
	c.cmd.WaitDelay = time.Second // a process that it has started itself may hold the pipe
	c.cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := c.cmd.Start(); err != nil {
		c.tail.close()
		return nil, fmt.Errorf("the successor cannot be started: %w", explainStart(command[0], err))
	}
	if pidfd < 0 {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		c.tail.close()
		return nil, fmt.Errorf("the successor cannot be started: this kernel has no pidfd, and without one it could not be fenced")
	}
	// Not pidfdFile: package os waits on a duplicate, and the O_NONBLOCK that the two share would make waitid(2) fail with EAGAIN.
	c.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	return c, nil
}

// explainStart says what the kernel's answer means for a program, where it is not plain.
func explainStart(path string, err error) error {
	info, serr := os.Stat(path)
	switch {
	case serr == nil && info.IsDir():
		return fmt.Errorf("%w (it is a directory)", err)
	case serr == nil && errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w (the file is there: its interpreter is not)", err)
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%w (in this process: raise its limit, RLIMIT_NOFILE)", err)
	}
	return err
}

// wait returns when the child has certainly ended, and says how, with its last words. It reaps it.
func (c *child) wait() string {
	err := c.cmd.Wait()
	c.tail.close()
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

// A tail keeps the end of what is written to it, and passes everything on. It waits for nobody: a stderr of ours that is broken, or that
// nobody reads, is no reason to stop the child, nor to wait for ever for its end. What such a stderr does not take is left out.
type tail struct {
	also chan []byte

	mu   sync.Mutex
	kept []byte
}

const (
	tailSize   = 2 << 10 // bytes
	tailWrites = 16      // that may wait for our stderr
)

func newTail(also io.Writer) *tail {
	t := &tail{also: make(chan []byte, tailWrites)}
	go func() {
		for p := range t.also {
			also.Write(p)
		}
	}()
	return t
}

// close ends the passing on, once it is done. Nothing is written any more.
func (t *tail) close() { close(t.also) }

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, p...)
	if n := len(t.kept) - tailSize; n > 0 {
		t.kept = append(t.kept[:0], t.kept[n:]...)
	}
	t.mu.Unlock()
	select {
	case t.also <- bytes.Clone(p):
	default:
	}
	return len(p), nil
}

// last is the end of what was written, fit for a terminal.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.ToValidUTF8(string(t.kept), "?")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text))
}

// adoptStderr gives a successor the stderr of the server in place of the pipe to its predecessor, which will not be there for ever.
func adoptStderr() {
	syscall.Dup3(stderrFD, 2, 0)
	syscall.Close(stderrFD)
}
