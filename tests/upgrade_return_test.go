package tests

import (
	"syscall"
	"testing"
)

// A successor is asked to upgrade, waits for its predecessor to leave, and has to give everything back instead: it ends, and the predecessor is
// found in the workspace.
func TestUpgradeOfReturningSuccessor(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	old := s.stepServer("", "", "-moody", "-probation", "1m")
	c := dial(t, s.stepAddr())
	c.ping(1)
	moody := newMoodyClient(s, late)
	moody.ask()
	if r := s.handOver(late); r.exit(patience) != 0 {
		t.Fatalf("the upgrade: %s", r.stderr.finish())
	}
	successor := s.pid()
	if successor == old.pid() {
		t.Fatal("the successor has given everything back too early")
	}
	s.signal(successor, syscall.SIGUSR2) // the straggler comes to rest 100 ms after DONE, and is refused
	s.awaitLog("parting from the predecessor")
	s.gone(successor)
	c.ping(1)
	waitFor(t, patience, "the predecessor serves again", func() bool {
		st := s.status() // it is found at once
		return st.PID == old.pid() && st.State == "Serving"
	})
	if pid := s.pid(); pid != old.pid() {
		t.Errorf("server.pid says %d, want %d", pid, old.pid())
	}
	moody.listen()
	s.upgrade("-binary", programs.steps)
	c.ping(1)
}
