package tests

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// Whatever is asked for in probation, at whatever moment of it, and whether its end comes first: the right process ends, nobody comes back to
// life, and nobody is lost.
func TestProbation(t *testing.T) {
	t.Parallel()
	const probation = 60 * time.Millisecond
	type moment struct {
		what  string
		after time.Duration
	}
	var moments []moment
	for after := time.Duration(0); after <= probation+15*time.Millisecond; after += 5 * time.Millisecond {
		for what := range inProbation {
			moments = append(moments, moment{what, after})
		}
	}
	name := func(m moment) string { return fmt.Sprintf("%s/%v", m.what, m.after) }
	lanes(t, 4, moments, name, func(t *testing.T, m moment) {
		s := newSpace(t)
		old := s.start("-probation", probation.String(), "-read-timeout", "1m")
		clients := make([]*client, 12)
		for i := range clients {
			clients[i] = dial(t, s.addr(loopback))
			clients[i].ping(1)
			if i%3 == 0 {
				clients[i].send("pi")
			}
		}
		s.upgrade()
		time.Sleep(m.after)
		inProbation[m.what](t, s, old, clients)
		s.replay()
	})
}

var inProbation = map[string]func(*testing.T, *space, *process, []*client){
	"stop of the successor": func(t *testing.T, s *space, old *process, clients []*client) {
		s.stop()
		if code := old.exit(0); code != 0 {
			t.Errorf("the predecessor exits %d", code)
		}
		for _, c := range clients {
			c.expectEnd()
		}
		s.startAs(programs.server, "-listen", loopback) // the workspace is free
	},
	"upgrade of the successor": func(t *testing.T, s *space, old *process, clients []*client) {
		s.upgrade()
		if code := old.exit(patience); code != 0 {
			t.Errorf("the predecessor exits %d", code)
		}
		stillServed(t, s, 3, clients)
	},
	"stop of the predecessor": func(t *testing.T, s *space, old *process, clients []*client) {
		old.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if code := old.exit(patience); code != 0 {
			t.Errorf("the predecessor exits %d", code)
		}
		stillServed(t, s, 2, clients)
	},
}

// stillServed checks that one run is left, and that all clients are its.
func stillServed(t *testing.T, s *space, run int, clients []*client) {
	t.Helper()
	s.alone()
	for i, c := range clients {
		if i%3 == 0 {
			c.send("ng")
			c.expect(1)
		}
		c.ping(2)
	}
	if st := s.status(); st.Run != run || st.State != "Serving" || st.Sessions != len(clients) {
		t.Errorf("run %d is %s with %d sessions, want run %d with %d", st.Run, st.State, st.Sessions, run, len(clients))
	}
}
