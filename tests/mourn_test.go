package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"baton/journal"
)

// A run is killed when all that it had is the other's already, and before its own journal says so. Nobody who lives on is named as lost with
// it: not by the other run, and not by the next first start.
func TestNobodyIsMournedWhoLives(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		step      string
		course    course
		probation string
	}{
		"successor, after it has given everything back": {"successor/back-on-done/1/kill", course{program: "refuses", asks: "wait"}, "1m"},
		"predecessor, after its last straggler":         {"predecessor/before-move-exited/1/kill", course{program: "takes", asks: "wait"}, "10ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			s.rude = true
			file := filepath.Join(s.base, "fired")
			s.stepServer(file, f.step, "-moody", "-probation", f.probation)
			clients := make([]*client, 80)
			for i := range clients {
				clients[i] = dial(t, s.stepAddr())
				clients[i].ping(1)
			}
			moody := newMoodyClient(s, &f.course)
			moody.ask()
			s.handOver(&f.course).exit(patience)
			waitFor(t, patience, "the step", func() bool { return fired(file) != 0 })
			s.gone(fired(file))
			moody.listen()
			for _, c := range clients {
				c.ping(1)
			}
			s.alone()
			s.stop()
			s.stepServer(file, "")
			s.stop()
			for _, l := range s.journals() {
				for _, e := range l.Events {
					if v, ok := e.Data.(journal.Verdict); ok && strings.HasPrefix(v.Verdict, "lost") {
						t.Errorf("run %d says of %v: %s", l.Run.Number, v.Sessions, v.Verdict)
					}
				}
			}
		})
	}
}
