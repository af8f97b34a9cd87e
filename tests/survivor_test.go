package tests

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who is left when a process was killed, and what else the tests that kill have in common.

// awaitSurvivor waits until one process is left, and serves, and returns its pid; 0 if none is left.
func (s *space) awaitSurvivor() (pid int) {
	s.t.Helper()
	waitFor(s.t, patience, "one process is left, and serves", func() bool {
		left := processesOf(s.base)
		if len(left) == 0 {
			pid = 0
			return true
		}
		if len(left) > 1 {
			return false
		}
		st, err := s.tryStatus()
		pid = st.PID
		return err == nil && st.State == "Serving" && st.PID == left[0] && st.Predecessor == 0
	})
	if pid != 0 && s.pid() != pid {
		s.t.Errorf("server.pid says %d, and %d serves", s.pid(), pid)
	}
	return pid
}

// startAfresh starts a server where none is left. The dead are gone only when the lock is: their files are closed after they are seen to end.
func (s *space) startAfresh(args ...string) {
	s.t.Helper()
	waitFor(s.t, patience, "the workspace's lock is free", func() bool {
		f, err := os.Open(s.path("lock"))
		if err != nil {
			s.t.Fatal(err)
		}
		defer f.Close()
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
	})
	s.startAs(programs.steps, args...)
}

// checkSockets fails the test if there are sockets of others than the run that serves.
func (s *space) checkSockets(run int) {
	s.t.Helper()
	want := []string{fmt.Sprintf("%06d.control", run), fmt.Sprintf("%06d.sock", run)}
	var got []string
	for range 100 {
		got = nil
		entries, _ := os.ReadDir(s.path("run"))
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if slices.Equal(got, want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Errorf("in run/: %v, want %v", got, want)
}

// fired returns the pid of the process that has come to its step; 0 = none yet.
func fired(file string) int {
	b, _ := os.ReadFile(file)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// awaitStep waits for a process to come to its step, and returns its pid.
func (s *space) awaitStep(file string) (pid int) {
	s.t.Helper()
	waitFor(s.t, patience, "a process has come to the step", func() bool { pid = fired(file); return pid > 0 })
	return pid
}

// gone waits until a process of the space has certainly ended.
func (s *space) gone(pid int) {
	s.t.Helper()
	waitFor(s.t, patience, "the process that is hit has ended", func() bool { return !slices.Contains(processesOf(s.base), pid) })
}

// resume continues a stopped process, if it is still there.
func (s *space) resume(pid int) {
	if slices.Contains(processesOf(s.base), pid) {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}

// lanes runs tests side by side, more of them than there are processors, for they mostly wait.
func lanes[T any](t *testing.T, n int, cases []T, name func(T) string, test func(*testing.T, T)) {
	t.Helper()
	next := make(chan T)
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			for c := range next {
				t.Run(name(c), func(t *testing.T) { test(t, c) })
			}
		})
	}
	for _, c := range cases {
		next <- c
	}
	close(next)
	running.Wait()
}

// servers is the processes of the space that serve, or are about to.
func (s *space) servers() []int {
	return slices.DeleteFunc(processesOf(s.base), func(pid int) bool { return !strings.HasPrefix(command(pid), programs.steps) })
}

// stepServer starts a server that looks out for a step.
func (s *space) stepServer(file, step string, args ...string) *process {
	s.t.Helper()
	cmd := s.command(programs.steps, append([]string{"-w", s.dir}, args...)...)
	cmd.Env = append(cmd.Env, "BATON_STEP="+step, "BATON_STEP_FILE="+file)
	p := s.launch(cmd)
	s.awaitReady(p)
	return p
}

func (s *space) stepAddr() string { return s.addr(loopback) }

// halt stops a process and returns when it stands still.
func (s *space) halt(pid int) {
	s.t.Helper()
	s.signal(pid, syscall.SIGSTOP)
	s.awaitStopped(pid)
}

func (s *space) awaitStopped(pid int) {
	s.t.Helper()
	waitFor(s.t, patience, "a process stands still", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(stat), ") T ")
	})
}
