package tests

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// listing is every name in the workspace, with what a look tells of it.
func (s *space) listing() string {
	var b strings.Builder
	filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintln(&b, path, err)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			fmt.Fprintln(&b, path, err)
			return nil
		}
		to, _ := os.Readlink(path)
		fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime().UnixNano(), info.Sys().(*syscall.Stat_t).Ino, to)
		return nil
	})
	return b.String()
}

func TestSecondStartIsRefusedAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.start()
	c := dial(t, s.addr(loopback))
	c.ping(1)
	before := ""
	waitFor(t, patience, "the workspace is quiet", func() bool {
		last := before
		before = s.listing()
		time.Sleep(200 * time.Millisecond) // the journal trails by 50 ms
		return before == last
	})
	for _, args := range [][]string{{"-listen", loopback}, {"-listen", "ping://" + s.addr(loopback)}} {
		r := s.run(args...)
		want := fmt.Sprintf("server: workspace is in use: another server (pid %d) is running in %s; use -upgrade to replace it", p.pid(), s.dir)
		if r.code != 1 || !strings.HasPrefix(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 || r.stdout != "" {
			t.Errorf("exit %d, want 1 and %q: stdout %q, stderr %q", r.code, want, r.stdout, r.stderr)
		}
	}
	if after := s.listing(); after != before {
		t.Errorf("the workspace was touched:\n%s\nit was\n%s", after, before)
	}
	c.ping(1)
}

// Many starts at once in an empty workspace: one wins.
func TestStartsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	procs := make([]*process, 8)
	for i := range procs {
		procs[i] = s.launch(s.command(programs.server, "-w", s.dir, "-listen", loopback))
	}
	running := func() (n int) {
		for _, p := range procs {
			if !p.hasEnded(0) {
				n++
			}
		}
		return n
	}
	waitFor(t, patience, "one is left", func() bool { return running() == 1 })
	for _, p := range procs {
		if !p.hasEnded(0) {
			s.awaitReady(p)
			if st := s.status(); st.PID != p.pid() || st.Run != 1 {
				t.Errorf("run %d, pid %d; want 1, %d", st.Run, st.PID, p.pid())
			}
			continue
		}
		text := p.stderr.finish()
		if code := p.exit(0); code != 1 || !strings.Contains(text, "another server (pid ") || strings.Count(text, "\n") != 1 {
			t.Errorf("a loser exits %d and says %q", code, text)
		}
	}
	dial(t, s.addr(loopback)).ping(1)
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	first := s.startAs(programs.server, "-takeover", "-listen", loopback) // nobody is there: an ordinary start
	if st := s.status(); st.Run != 1 || st.PID != first.pid() {
		t.Errorf("run %d, pid %d; want 1, %d", st.Run, st.PID, first.pid())
	}
	c := newCrowd(t, s.addr(loopback), fewOfEach()...)
	half := dial(t, s.addr(loopback))
	half.send("pi")

	second := s.startAs(programs.next, "-takeover", "-listen", loopback, "-probation", "300ms")
	if st := s.status(); st.Run != 2 || st.PID != second.pid() || st.PID != s.pid() || st.Version != versionTwo {
		t.Errorf("after the takeover: %+v, server.pid %d", st, s.pid())
	}
	half.send("ng")
	half.expect(1)
	if code := first.exit(patience); code != 0 { // after probation
		t.Errorf("the predecessor exits %d: %s", code, first.stderr.finish())
	}

	s.upgrade() // one that took over can be upgraded as any other
	if code := second.exit(patience); code != 0 {
		t.Errorf("run 2 exits %d: %s", code, second.stderr.finish())
	}
	c.check()
	if st := s.status(); st.Run != 3 || st.Version != versionTwo {
		t.Errorf("after the upgrade: %+v", st)
	}
	s.replay()
}

// What was not asked for is refused: a child of somebody's that is not a takeover.
func TestUninvitedSuccessorIsTurnedAway(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start()
	cmd := s.command(programs.server, "-w", s.dir, "-listen", loopback)
	cmd.Env = append(cmd.Env, "BATON_SUCCESSOR_OF=1")
	r := s.runAs(cmd)
	if r.code != 1 || !strings.Contains(r.stderr, "run 1 did not start process") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("exit %d: %q", r.code, r.stderr)
	}
	dial(t, s.addr(loopback)).ping(1)
	s.upgrade()
}

func TestNobodyRuns(t *testing.T) {
	t.Parallel()
	modes := [][]string{{"-status"}, {"-upgrade"}, {"-upgrade", "-check"}}
	check := func(t *testing.T, s *space) {
		t.Helper()
		for _, args := range modes {
			r := s.run(args...)
			if r.code != 4 || !strings.HasPrefix(r.stderr, "server: no server is running in "+s.dir) || strings.Count(r.stderr, "\n") != 1 || r.stdout != "" {
				t.Errorf("%v: exit %d, want 4; stdout %q, stderr %q", args, r.code, r.stdout, r.stderr)
			}
		}
	}
	s := newSpace(t)
	check(t, s)
	if _, err := os.Stat(s.dir); err == nil {
		t.Error("the workspace was made by only looking at it")
	}
	p := s.start()
	s.stop()
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit %d", code)
	}
	check(t, s)
	p = s.start()
	p.signal(syscall.SIGKILL)
	p.exit(patience)
	check(t, s)
	s.rude = true
}

func TestOtherVersion(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	for i, binary := range []string{programs.server, programs.next} {
		release := filepath.Join(s.base, "releases", fmt.Sprint(i+1))
		if err := os.MkdirAll(release, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(binary, filepath.Join(release, "server")); err != nil {
			t.Fatal(err)
		}
	}
	current := filepath.Join(s.base, "current")
	point := func(release string) {
		t.Helper()
		if err := os.Symlink(filepath.Join("releases", release), current+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(current+".new", current); err != nil {
			t.Fatal(err)
		}
	}
	point("1")
	s.startAs(filepath.Join(current, "server"), "-listen", loopback)
	c := dial(t, s.addr(loopback))
	for _, step := range []struct {
		what string
		args []string
		want string
	}{
		{"2", nil, versionTwo},
		{"1", nil, versionOne},
		{"1", []string{"-binary", programs.next}, versionTwo},
		{"2", []string{"-binary", programs.server}, versionOne},
	} {
		c.ping(1)
		point(step.what)
		s.upgrade(step.args...)
		st := s.status()
		if st.Version != step.want || st.LastHandoff == nil || st.LastHandoff.Version != step.want {
			t.Errorf("current -> releases/%s, -upgrade %v: version %s (%+v), want %s", step.what, step.args, st.Version, st.LastHandoff, step.want)
		}
	}
	c.ping(1)
	// The command line tool and the JSON are what others script against.
	if r := s.run("-status"); r.code != 0 || !strings.Contains(r.stdout, `"version": "`+versionOne+`"`) {
		t.Errorf("-status exits %d: %s", r.code, r.stdout)
	}
	for binary, version := range map[string]string{programs.server: versionOne, programs.next: versionTwo} {
		if out, err := exec.Command(binary, "-version").Output(); err != nil || !strings.Contains(string(out), version) {
			t.Errorf("%s -version: %q, %v", binary, out, err)
		}
	}
}
