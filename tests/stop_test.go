package tests

import (
	"syscall"
	"testing"
	"time"
)

func TestStopSendsWhatIsPending(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			p := s.start("-stop-timeout", "20s")
			idle := dial(t, s.addr(loopback))
			idle.ping(1)
			const size = 8 << 20 // more than the socket takes
			slow := dial(t, s.addr(loopback))
			slow.SetReadBuffer(16 << 10)
			sent := make(chan int, 1)
			go func() {
				n, _ := slow.Write([]byte(repeat("ping", size/4)))
				sent <- n
			}()
			time.Sleep(300 * time.Millisecond)
			p.signal(sig)
			idle.expectEnd()
			time.Sleep(300 * time.Millisecond)

			// All answers to what was read before the stop, whole ones, and then the end, or a reset if questions were left unread.
			got := 0
			for expect(slow, 1024) == nil {
				got += 4096
			}
			if got < 64<<10 {
				t.Errorf("%d bytes of answers came, of %d asked for", got, size)
			}
			<-sent
			if code := p.exit(patience); code != 0 {
				t.Errorf("exit %d: %s", code, p.stderr.finish())
			}
			if _, err := tryDial(slow.RemoteAddr().String()); err == nil {
				t.Error("somebody still listens")
			}
		})
	}
}

// All that was asked has been answered by the server, and the client has not read it: it gets every byte, and the end of the stream.
func TestStopIsByteExact(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.start("-stop-timeout", "20s")
	const pings = 50_000
	c := dial(t, s.addr(loopback))
	c.SetReadBuffer(4 << 10)
	c.send(repeat("ping", pings))
	time.Sleep(300 * time.Millisecond)
	p.signal(syscall.SIGTERM)
	time.Sleep(100 * time.Millisecond)
	c.expect(pings)
	c.expectEnd()
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// stuck makes a client that keeps a stopping server.
func stuck(t *testing.T, s *space) {
	t.Helper()
	c := dial(t, s.addr(loopback))
	c.SetReadBuffer(4 << 10)
	go c.Write([]byte(repeat("ping", 4<<20)))
	time.Sleep(300 * time.Millisecond)
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.rude = true // at once means that names may be left
	p := s.start("-stop-timeout", "1m", "-write-timeout", "1m")
	stuck(t, s)
	p.signal(syscall.SIGTERM)
	time.Sleep(500 * time.Millisecond)
	if p.hasEnded(0) {
		t.Fatal("the server did not wait for its client")
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(2 * time.Second); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	next := s.start() // whatever is left does not hinder
	if st := s.status(); st.PID != next.pid() {
		t.Errorf("pid %d, want %d", st.PID, next.pid())
	}
}

func TestStopTimeout(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.start("-stop-timeout", "500ms", "-write-timeout", "1m")
	stuck(t, s)
	since := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	checkDuration(t, "stop", time.Since(since), 500*time.Millisecond)
}

// A stop at any time of a handoff ends both sides.
func TestStopDuringHandoff(t *testing.T) {
	t.Parallel()
	t.Run("preparing", func(t *testing.T) {
		t.Parallel()
		s := newSpace(t)
		p := s.start()
		c := dial(t, s.addr(loopback))
		c.ping(1)
		up := s.launch(s.command(programs.server, "-w", s.dir, "-upgrade", "-binary", s.script("slow", "sleep 3; exec "+programs.server+` "$@"`)))
		waitFor(t, patience, "the upgrade is under way", func() bool { return s.status().State == "Preparing" })
		p.signal(syscall.SIGTERM)
		c.expectEnd()
		if code := p.exit(patience); code != 0 {
			t.Errorf("exit %d", code)
		}
		if code := up.exit(patience); code != 3 {
			t.Errorf("-upgrade exits %d, want 3: %s%s", code, up.stdout.finish(), up.stderr.finish())
		}
	})
	t.Run("probation", func(t *testing.T) {
		t.Parallel()
		s := newSpace(t)
		p := s.start("-probation", "1m")
		c := dial(t, s.addr(loopback))
		c.ping(1)
		s.upgrade()
		c.ping(1)
		s.stop() // the successor, which its predecessor must not take for a crash
		c.expectEnd()
		if code := p.exit(patience); code != 0 {
			t.Errorf("the predecessor exits %d", code)
		}
		s.replay()
	})
	t.Run("predecessor in probation", func(t *testing.T) {
		t.Parallel()
		s := newSpace(t)
		p := s.start("-probation", "1m")
		c := dial(t, s.addr(loopback))
		c.ping(1)
		s.upgrade()
		p.signal(syscall.SIGTERM)
		if code := p.exit(patience); code != 0 {
			t.Errorf("the predecessor exits %d", code)
		}
		c.ping(1)
		if st := s.status(); st.Run != 2 || st.State != "Serving" {
			t.Errorf("%+v", st)
		}
	})
}
