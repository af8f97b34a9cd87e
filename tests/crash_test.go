package tests

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/internal/load"
)

// kill -9, of this one or that one. What is lost with a process is lost in this milestone; service must go on.

func TestStartAfterCrash(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.rude = true
	for run := 1; run <= 3; run++ {
		p := s.start()
		c := dial(t, s.addr(loopback))
		c.ping(1)
		if st := s.status(); st.Run != run || st.PID != s.pid() || st.PID != p.pid() {
			t.Errorf("start %d: run %d, pid %d, server.pid %d, want %d", run, st.Run, st.PID, s.pid(), p.pid())
		}
		if run == 3 {
			break
		}
		p.signal(syscall.SIGKILL)
		p.exit(patience)
		if _, err := os.Lstat(s.path("conn.sock")); err != nil {
			t.Errorf("the test is void: no stale link is left: %v", err)
		}
	}
	s.upgrade()
	s.stop()
	log := s.replay()
	ends := map[int]string{}
	for _, r := range log.Runs {
		ends[r.Run] = r.End
	}
	if !strings.Contains(ends[1], "died") || !strings.Contains(ends[2], "died") || !strings.Contains(ends[3], "ended") || len(ends) != 4 {
		t.Errorf("how the runs ended: %v", ends)
	}
	// What was left of the dead is gone, or does no harm; what the living had is gone.
	for _, name := range []string{"conn.sock", "control.sock", "server.pid"} {
		if _, err := os.Lstat(s.path(name)); err == nil {
			t.Errorf("%s is left over", name)
		}
	}
}

func TestSuccessorDiesWithSessions(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"dies-after-take", "dies-after-give", "hangs-after-give", "refuses-after-give"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			p := s.start("-probation", "300ms")
			clients := make([]*client, 200) // more than one batch
			for i := range clients {
				clients[i] = dial(t, s.addr(loopback))
				clients[i].ping(1)
			}
			r := s.run("-upgrade", "-binary", s.badSuccessor(way))
			if r.code != 3 || !strings.Contains(r.stdout, "run 1 goes on serving\nreason: ") {
				t.Errorf("exit %d, want 3: %s%s", r.code, r.stdout, r.stderr)
			}
			if st := s.status(); st.Run != 1 || st.PID != p.pid() || st.PID != s.pid() || st.State != "Serving" {
				t.Errorf("%+v, server.pid %d", st, s.pid())
			}
			dial(t, s.addr(loopback)).ping(1)
			kept := 0
			for _, c := range clients {
				c.Write([]byte("ping"))
				if expect(c, 1) == nil { // or it was reset: it does not hang
					kept++
				}
			}
			t.Logf("%d of %d sessions are kept", kept, len(clients))
			if kept == 0 {
				t.Error("what had not been given is lost, too")
			}
			s.upgrade()
			dial(t, s.addr(loopback)).ping(1)
			s.alone()
		})
	}
}

func TestSuccessorIsKilledInProbation(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.rude = true
	p := s.start("-probation", "1m")
	addr := s.addr(loopback)
	before := dial(t, addr)
	before.ping(1)
	s.upgrade()
	before.ping(1)
	after := dial(t, addr)
	after.ping(1)
	s.kill(s.pid())
	waitFor(t, patience, "run 1 serves again", func() bool {
		st, err := s.tryStatus()
		return err == nil && st.Run == 1 && st.State == "Serving"
	})
	if s.pid() != p.pid() {
		t.Errorf("server.pid says %d, want %d", s.pid(), p.pid())
	}
	dial(t, addr).ping(1)
	for _, c := range []*client{before, after} { // kept or ended, but not left hanging
		c.Write([]byte("ping"))
		start := time.Now()
		expect(c, 1)
		if time.Since(start) > 10*time.Second {
			t.Error("a session is left hanging")
		}
	}
	s.upgrade()
	dial(t, addr).ping(1)
	if st := s.status(); st.Run != 3 {
		t.Errorf("run %d, want 3", st.Run)
	}
}

func TestPredecessorIsKilledInProbation(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.rude = true
	p := s.start("-probation", "1m")
	c := newCrowd(t, s.addr(loopback), fewOfEach()...)
	s.upgrade()
	p.signal(syscall.SIGKILL)
	p.exit(patience)
	waitFor(t, patience, "the successor has noticed", func() bool { return s.status().Predecessor == 0 })
	s.upgrade()
	c.check()
	if st := s.status(); st.Run != 3 {
		t.Errorf("run %d, want 3", st.Run)
	}
}

// The real successor is killed at a moment that nobody chooses. Nobody may hang, and new dials work.
func TestSuccessorIsKilledAtSomeTime(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.rude = true
	s.start("-probation", "1m")
	addr := s.addr(loopback)
	for i := range 10 {
		l, err := load.Start(t.Context(), load.Config{Addr: addr, Groups: []load.Group{{N: 300}}, Patience: patience})
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		first := s.pid()
		up := s.launch(s.command(programs.server, "-w", s.dir, "-upgrade"))
		victim := 0
		waitFor(t, patience, "a successor", func() bool {
			for _, pid := range processesOf(s.base) {
				if pid != first && pid != up.pid() && strings.HasPrefix(command(pid), programs.server) {
					victim = pid
				}
			}
			return victim != 0 || up.hasEnded(0)
		})
		time.Sleep(time.Duration(i) * 4 * time.Millisecond)
		s.kill(victim)
		up.exit(patience)
		waitFor(t, patience, "somebody serves", func() bool {
			st, err := s.tryStatus()
			return err == nil && st.State == "Serving" && visit(addr) == nil
		})
		r := l.Stop(t.Context())
		t.Logf("round %d: -upgrade exits %d; %d of 300 dropped, %d wrong bytes", i, up.cmd.ProcessState.ExitCode(), r.Drops, r.Wrong)
		if r.Wrong > 0 || r.Refused > 0 || r.Cut > 0 {
			t.Errorf("round %d: %d wrong bytes, %d refused, %d cut", i, r.Wrong, r.Refused, r.Cut)
		}
	}
	s.upgrade()
}
