package tests

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// Names in the workspace that somebody has removed, or put other things in the place of, while the server lives. It is told what to do, no
// second server starts beside it, and an upgrade puts them back.
func TestNamesRemovedWhileTheServerLives(t *testing.T) {
	t.Parallel()
	remove := func(names ...string) func(*testing.T, *space) {
		return func(t *testing.T, s *space) {
			for _, name := range names {
				if err := os.RemoveAll(s.path(name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	replace := func(name string, make func(path string) error) func(*testing.T, *space) {
		return func(t *testing.T, s *space) {
			remove(name)(t, s)
			if err := make(s.path(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := func(path string) error { return os.WriteFile(path, []byte("not a socket\n"), 0o600) }
	dangling := func(path string) error { return os.Symlink("run/nowhere", path) }
	loop := func(path string) error { return os.Symlink(path, path) }
	for _, tt := range []struct {
		name   string
		spoil  func(*testing.T, *space)
		silent bool // nobody answers at control.sock: only the signal reaches the server
	}{
		{name: "conn.sock removed", spoil: remove("conn.sock")},
		{name: "conn.sock is a file", spoil: replace("conn.sock", file)},
		{name: "conn.sock is a dangling link", spoil: replace("conn.sock", dangling)},
		{name: "conn.sock is a loop", spoil: replace("conn.sock", loop)},
		{name: "its own handoff socket removed", spoil: remove("run/000001.sock")},
		{name: "server.pid removed", spoil: remove("server.pid")},
		{name: "server.pid names another process, and conn.sock removed", spoil: func(t *testing.T, s *space) {
			remove("conn.sock")(t, s)
			write(t, s.path("server.pid"), "1\n")
		}},
		{name: "control.sock removed", spoil: remove("control.sock"), silent: true},
		{name: "control.sock is a file", spoil: replace("control.sock", file), silent: true},
		{name: "control.sock is a dangling link", spoil: replace("control.sock", dangling), silent: true},
		{name: "its own control socket removed", spoil: remove("run/000001.control"), silent: true},
		{name: "run removed", spoil: remove("run"), silent: true},
		{name: "all but the lock removed", spoil: remove("run", "conn.sock", "control.sock", "server.pid", "server.log"), silent: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			p := s.start("-read-timeout", "1m", "-probation", "300ms")
			addr := s.addr(loopback)
			before := descriptors(t, p.pid())
			idle := idlers(t, addr, 12)
			crowd := newCrowd(t, addr, fewOfEach()...)
			tt.spoil(t, s)

			s.wantNoSecondOwner(t, p.pid())
			checkIdlers(t, idle)
			if tt.silent {
				s.wantRemedy(t, p.pid())
				if err := syscall.Kill(p.pid(), syscall.SIGUSR2); err != nil {
					t.Fatal(err)
				}
				s.awaitRun(2)
			} else {
				s.upgrade()
			}
			for _, name := range []string{"conn.sock", "control.sock"} {
				if to, err := os.Readlink(s.path(name)); err != nil || !strings.HasPrefix(to, "run/000002.") {
					t.Errorf("%s → %q: %v", name, to, err)
				}
			}
			checkIdlers(t, idle)
			s.alone()
			s.checkSockets(2)
			s.upgrade()
			crowd.check()
			checkIdlers(t, idle)
			for _, c := range idle {
				c.Close()
			}
			s.alone()
			waitFor(t, patience, "all sessions have ended", func() bool { return s.status().Sessions == 0 })
			if tt.name != "all but the lock removed" { // the log's file is another one
				checkDescriptors(t, s, before)
			}
			s.replay()
		})
	}
}

// wantNoSecondOwner starts another server in the workspace, which has to be told who is there.
func (s *space) wantNoSecondOwner(t *testing.T, pid int) {
	t.Helper()
	want := fmt.Sprintf("another server (pid %d) is running", pid)
	r := s.run("-listen", loopback)
	if r.code != 1 || !strings.Contains(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("a second start exits %d: %q, want %q", r.code, r.stderr, want)
	}
}

// wantRemedy asks a server that cannot be reached.
func (s *space) wantRemedy(t *testing.T, pid int) {
	t.Helper()
	for _, args := range [][]string{{"-upgrade"}, {"-status"}} {
		r := s.run(args...)
		for _, want := range []string{fmt.Sprintf("a server (pid %d) is running in %s", pid, s.dir), fmt.Sprintf("kill -USR2 %d", pid)} {
			if r.code != 1 || !strings.Contains(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("%v exits %d: %q, want %q", args, r.code, r.stderr, want)
			}
		}
	}
}

// What cannot be put back is named, and the upgrade is rolled back or works as far as it can.
func TestNamesThatCannotBePutBack(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.rude = true // the directory is nobody's to remove
	p := s.start("-read-timeout", "1m", "-probation", "300ms")
	idle := idlers(t, s.addr(loopback), 12)
	if err := os.Remove(s.path("conn.sock")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.path("conn.sock"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.wantNoSecondOwner(t, p.pid())
	s.upgrade() // a child does not go by that name
	s.awaitLog("the workspace does not show it", "conn.sock")
	checkIdlers(t, idle)
	s.alone()
	if err := os.Remove(s.path("conn.sock")); err != nil {
		t.Fatal(err)
	}
	s.upgrade()
	checkIdlers(t, idle)
	s.startAs(programs.server, "-takeover", "-listen", loopback) // which does
	checkIdlers(t, idle)
}

// Whoever only reads the lock's file, a backup perhaps, is not taken for the server: it would be told to upgrade, and end.
func TestReaderOfTheLockIsNoServer(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start()
	s.stop()
	f, err := os.Open(s.path("lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if r := s.run("-status"); r.code != 4 {
		t.Errorf("-status exits %d, want 4: %s", r.code, r.stderr)
	}
}

// A successor has the lock that its first predecessor has taken.
func TestSuccessorIsFoundByTheLock(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start("-probation", "300ms")
	s.upgrade()
	s.alone()
	pid := s.pid()
	for _, name := range []string{"control.sock", "server.pid"} {
		if err := os.Remove(s.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	s.wantRemedy(t, pid)
	s.signal(pid, syscall.SIGUSR2)
	s.awaitRun(3)
}
