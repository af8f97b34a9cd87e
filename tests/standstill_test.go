package tests

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A predecessor stands still while its successor answers, in time: the answer counts.
func TestAnswerDuringStandstill(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			p := s.stepServer("", "", "-moody", "-answer", "3s")
			moody := newMoodyClient(s, &course{program: "hangs"})
			up := s.handOver(&course{program: "hangs"})
			s.awaitLog("state", "to=Transferring")
			time.Sleep(300 * time.Millisecond)
			s.halt(p.pid())
			time.Sleep(4 * time.Second) // the answer comes after 1.5 s
			s.signal(p.pid(), syscall.SIGCONT)
			up.exit(patience)
			if said := up.stdout.finish() + up.stderr.finish(); !strings.Contains(said, "not in the mood") {
				t.Errorf("the upgrade: %s", said)
			}
			moody.ping(1)
		})
	}
}

// A predecessor stands still in probation, and so many of the sessions that it gave end meanwhile that the channel is full: it is waited for, and
// nobody is ended for that.
func TestStandstillInProbation(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.stepServer("", "", "-probation", "1m", "-answer", "1s", "-exit", "500ms")
	clients := make([]*client, 800)
	for i := range clients {
		clients[i] = dial(t, s.stepAddr())
		clients[i].ping(1)
	}
	if r := s.handOver(&course{}); r.exit(patience) != 0 {
		t.Fatalf("the upgrade: %s", r.stderr.finish())
	}
	successor := s.pid()
	c := dial(t, s.stepAddr())
	c.ping(1)
	s.halt(p.pid())
	for _, c := range clients {
		c.Close()
		time.Sleep(time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	s.signal(p.pid(), syscall.SIGCONT)
	time.Sleep(1500 * time.Millisecond)
	c.ping(1)
	if st := s.status(); st.PID != successor || st.State != "Serving" {
		t.Errorf("afterwards: %+v", st)
	}
	s.stop()
}
