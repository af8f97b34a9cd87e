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
