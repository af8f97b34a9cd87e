package tests

import (
	"bufio"
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// marker, in the environment of every process that a test starts and inherited by those that these start, says whose they are.
const marker = "BATON_TEST_SPACE"

// A process is a program that a test has started.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout lines
	stderr lines
	ended  chan struct{} // closed when it has ended
}

// launch starts a program. Its output is kept; a reader of its own does not wait for processes that inherited it.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{})}
	out, errs := p.stdout.pipe(t), p.stderr.pipe(t)
	cmd.Stdout, cmd.Stderr = out, errs
	err := cmd.Start()
	out.Close()
	errs.Close()
	if err != nil {
		t.Fatalf("starting %v: %v", cmd.Args, err)
	}
	go func() { cmd.Wait(); close(p.ended) }()
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// exit waits for the end and returns the exit code; -1 = a signal ended it.
func (p *process) exit(patience time.Duration) int {
	p.t.Helper()
	if !p.hasEnded(patience) {
		p.t.Fatalf("%v has not ended after %v", p.cmd.Args, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// hasEnded waits for the end, and reports false if it does not come in time.
func (p *process) hasEnded(patience time.Duration) bool {
	select {
	case <-p.ended:
		return true
	default:
	}
	select {
	case <-p.ended:
		return true
	case <-time.After(patience):
		return false
	}
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("%v to pid %d: %v", sig, p.pid(), err)
	}
}

// lines collects what is written to a pipe.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	done chan struct{} // closed when nobody can write any more
}

// pipe returns the end for the writer, which the caller closes.
func (l *lines) pipe(t testing.TB) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l.done = make(chan struct{})
	go func() {
		defer close(l.done)
		defer r.Close()
		for in := bufio.NewReader(r); ; {
			line, err := in.ReadString('\n')
			l.mu.Lock()
			l.text.WriteString(line)
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return w
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// finish waits for the end of the output, for a moment: a process that still runs may hold it.
func (l *lines) finish() string {
	select {
	case <-l.done:
	case <-time.After(2 * time.Second):
	}
	return l.String()
}

// need says where a program is that a test cannot do without. Where it is missing the test is skipped, but for CI, which installs it.
func need(t testing.TB, program, what string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%s is not installed: %s cannot be tried", program, what)
	default:
		t.Skipf("%s is not installed: %s is not tried", program, what)
	}
	return path
}

// elders are the processes that were there before this one, and are there still: none of ours, and most of what is in /proc, which is
// read often. Their numbers come again when they are gone.
var elders = struct {
	sync.Mutex
	pids map[string]bool
}{pids: listProcesses()}

func listProcesses() map[string]bool {
	pids := map[string]bool{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			pids[e.Name()] = true
		}
	}
	return pids
}

// youngProcesses lists all but the elders.
func youngProcesses() map[string]bool {
	elders.Lock()
	defer elders.Unlock()
	all := listProcesses()
	maps.DeleteFunc(elders.pids, func(pid string, _ bool) bool { return !all[pid] })
	maps.DeleteFunc(all, func(pid string, _ bool) bool { return elders.pids[pid] })
	return all
}

// processesOf finds the live processes that carry a marker, by pid.
func processesOf(mark string) (pids []int) {
	want := []byte(marker + "=" + mark + "\x00")
	for name := range youngProcesses() {
		env, err := os.ReadFile("/proc/" + name + "/environ") // empty for a zombie
		if err == nil && bytes.Contains(env, want) {
			pid, _ := strconv.Atoi(name)
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// command is how a process was called, for messages.
func command(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return strings.ReplaceAll(strings.TrimRight(string(b), "\x00"), "\x00", " ")
}

// number is what differs between two of a kind: the inode of a pipe, the run of a journal.
var number = regexp.MustCompile(`[0-9]{2,}`)

// descriptors says what a process has open, sorted, without numbers. It waits until that does not change: what was asked last may still be
// being closed.
func descriptors(t testing.TB, pid int) []string {
	t.Helper()
	var open, before []string
	waitFor(t, patience, "the process is at rest", func() bool {
		before, open = open, descriptorsNow(t, pid)
		time.Sleep(30 * time.Millisecond)
		return slices.Equal(open, before)
	})
	return open
}

func descriptorsNow(t testing.TB, pid int) []string {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("what has pid %d open: %v", pid, err)
	}
	open := []string{}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		open = append(open, number.ReplaceAllString(to, "N"))
	}
	slices.Sort(open)
	return open
}

// checkDescriptors fails if the serving process has more open, or other things, than is wanted.
func checkDescriptors(t testing.TB, s *space, want []string) {
	t.Helper()
	var got []string
	for range 50 {
		if got = descriptors(t, s.pid()); slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("descriptors left over:\n got %v\nwant %v", got, want)
	dir := "/proc/" + strconv.Itoa(s.pid()) + "/fd/"
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		to, _ := os.Readlink(dir + e.Name())
		t.Logf("%s → %s", e.Name(), to)
	}
}

// reap collects an orphan that has come to us and ended. It reports false if there is none of this pid.
func reap(pid int) (status unix.WaitStatus, ok bool) {
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	return status, err == nil && got == pid
}

// waitFor returns when ok does, and fails the test if it does not in time.
func waitFor(t testing.TB, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(15 * time.Millisecond) { // most of them look through /proc, which costs
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}
