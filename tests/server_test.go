package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/handoff"

	"golang.org/x/sys/unix"
)

// A space is a workspace, with the processes that a test has in it.
type space struct {
	t     testing.TB
	base  string // the marker of its processes
	dir   string // the workspace
	procs []*process
	rude  bool // the test kills: names may be left over, and exit codes are not 0
}

// patience is how long anything ordinary may take on a machine that has other things to do as well.
const patience = 20 * time.Second

// newSpace makes a place for a workspace, which does not exist yet. At the end of the test everything in it is stopped, and looked at.
func newSpace(t testing.TB) *space {
	t.Helper()
	base, err := os.MkdirTemp("", "bt") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	s := &space{t: t, base: base, dir: filepath.Join(base, "ws")}
	t.Cleanup(s.cleanUp)
	return s
}

// loopback is the listener of tests that need only one.
const loopback = "ping://127.0.0.1:0"

// command makes a command that belongs to the space.
func (s *space) command(binary string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), marker+"="+s.base)
	return cmd
}

// launch starts a program in the space.
func (s *space) launch(cmd *exec.Cmd) *process {
	s.t.Helper()
	p := launch(s.t, cmd)
	s.procs = append(s.procs, p)
	return p
}

// start has a server serve, with one listener on the loopback and these arguments.
func (s *space) start(args ...string) *process {
	s.t.Helper()
	return s.startAs(programs.server, append([]string{"-listen", loopback}, args...)...)
}

// startAs has a program serve, with just these arguments and the workspace.
func (s *space) startAs(binary string, args ...string) *process {
	s.t.Helper()
	p := s.launch(s.command(binary, append([]string{"-w", s.dir}, args...)...))
	s.awaitReady(p)
	return p
}

// awaitReady waits for a process to say that it serves.
func (s *space) awaitReady(p *process) {
	s.t.Helper()
	waitFor(s.t, patience, "the server becomes ready", func() bool {
		if p.hasEnded(0) {
			s.t.Fatalf("the server did not start: %v; %s", p.cmd.ProcessState, p.stderr.finish())
		}
		return strings.Contains(p.stdout.String(), "ready: run ")
	})
}

// A result is what became of a command.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the server program with the workspace and these arguments, to its end.
func (s *space) run(args ...string) result {
	s.t.Helper()
	return s.runAs(s.command(programs.server, append([]string{"-w", s.dir}, args...)...))
}

func (s *space) runAs(cmd *exec.Cmd) result {
	s.t.Helper()
	p := s.launch(cmd)
	code := p.exit(90 * time.Second)
	return result{code, p.stdout.finish(), p.stderr.finish()}
}

// upgrade asks for an upgrade, which has to succeed.
func (s *space) upgrade(args ...string) {
	s.t.Helper()
	if r := s.run(append([]string{"-upgrade"}, args...)...); r.code != 0 {
		s.t.Fatalf("-upgrade exits %d: %s%s", r.code, r.stdout, r.stderr)
	}
}

// status is what the running server says.
func (s *space) status() handoff.Status {
	s.t.Helper()
	st, err := s.tryStatus()
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

func (s *space) tryStatus() (handoff.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return handoff.NewClient(s.dir).Status(ctx)
}

// addr is where the listener with this URL is.
func (s *space) addr(url string) string {
	s.t.Helper()
	for _, l := range s.status().Listeners {
		if l.URL == url {
			return l.Addr
		}
	}
	s.t.Fatalf("no listener %s in %+v", url, s.status().Listeners)
	return ""
}

// pid is what server.pid says; 0 if nothing.
func (s *space) pid() int {
	b, _ := os.ReadFile(s.path("server.pid"))
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

func (s *space) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *space) log() string {
	b, _ := os.ReadFile(s.path("server.log"))
	return string(b)
}

// awaitLog waits until the log has a line with all of these words.
func (s *space) awaitLog(words ...string) {
	s.t.Helper()
	waitFor(s.t, patience, "in server.log: "+strings.Join(words, ", "), func() bool {
		for line := range strings.Lines(s.log()) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return true
			}
		}
		return false
	})
}

// alone waits until the serving process is the only one of the space: its predecessor has gone.
func (s *space) alone() {
	s.t.Helper()
	waitFor(s.t, patience, "one process is left", func() bool { return len(processesOf(s.base)) == 1 })
}

// stop asks the serving process to stop, and waits for the end of all.
func (s *space) stop() {
	s.t.Helper()
	s.signal(s.pid(), syscall.SIGTERM)
	waitFor(s.t, patience, "all processes end", func() bool { return len(processesOf(s.base)) == 0 })
}

// signal sends a signal to a process of the space, and to no other.
func (s *space) signal(pid int, sig syscall.Signal) {
	s.t.Helper()
	if pid <= 1 || !slices.Contains(processesOf(s.base), pid) {
		s.t.Fatalf("%v to pid %d, which is none of %v", sig, pid, processesOf(s.base))
	}
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatalf("%v to pid %d: %v", sig, pid, err)
	}
}

// kill ends a process of the space with SIGKILL, and returns when it has certainly ended, with all that it had open.
func (s *space) kill(pid int) {
	s.t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		s.t.Fatalf("pid %d: %v", pid, err)
	}
	defer unix.Close(pidfd)
	s.signal(pid, syscall.SIGKILL)
	waitFor(s.t, patience, "a killed process ends", func() bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
		return n == 1
	})
}

// cleanUp stops what runs, looks for what was left behind, and tells the log if the test has failed.
func (s *space) cleanUp() {
	defer os.RemoveAll(s.base)
	defer func() {
		if s.t.Failed() {
			s.dump()
		}
	}()
	asked := 0
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		left := processesOf(s.base)
		if len(left) == 0 {
			break
		}
		if pid := s.pid(); pid != asked && slices.Contains(left, pid) { // another one may serve by now
			syscall.Kill(pid, syscall.SIGTERM)
			asked = pid
		}
	}
	for _, pid := range processesOf(s.base) {
		s.t.Errorf("process left over: pid %d, %s", pid, command(pid))
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, p := range s.procs {
		<-p.ended
	}
	s.reapOrphans()
	if s.rude {
		return
	}
	for _, name := range []string{"conn.sock", "control.sock", "server.pid"} {
		if _, err := os.Lstat(s.path(name)); err == nil {
			s.t.Errorf("%s is left over", name)
		}
	}
	if entries, _ := os.ReadDir(s.path("run")); len(entries) > 0 {
		s.t.Errorf("left over in run/: %v", entries)
	}
}

// reapOrphans looks at how those ended that a server had started.
func (s *space) reapOrphans() {
	for _, log := range s.journals() {
		pid := log.Run.PID
		if pid == 0 || slices.ContainsFunc(s.procs, func(p *process) bool { return p.pid() == pid }) {
			continue
		}
		var status unix.WaitStatus
		ok := false
		for range 100 { // it is about to become ours: its parent has only just ended
			if status, ok = reap(pid); ok {
				break
			}
			if syscall.Kill(pid, 0) != nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if ok && !s.rude && status != 0 {
			s.t.Errorf("run %d (pid %d) ended with wait status %#x", log.Run.Number, pid, int(status))
		}
	}
}

func (s *space) dump() {
	for _, p := range s.procs {
		if text := p.stderr.String(); text != "" {
			s.t.Logf("stderr of %v:\n%s", p.cmd.Args, text)
		}
	}
	const most = 16 << 10
	log := s.log()
	if len(log) > most {
		log = "…" + log[len(log)-most:]
	}
	s.t.Logf("server.log:\n%s", log)
}
