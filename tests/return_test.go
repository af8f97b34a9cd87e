package tests

import (
	"strings"
	"testing"
)

// A successor that lives, and fails when it serves hundreds already, gives all of them back: no client notices.
func TestLiveSuccessorReturns(t *testing.T) {
	t.Parallel()
	for _, f := range []struct{ way, reason string }{
		{"refuses-late", "no more of these"},
		{"runs-out-late", "RLIMIT_NOFILE"},
		{"disk-full-late", "cannot go on"},
	} {
		t.Run(f.way, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			s.start("-probation", "300ms")
			clients := make([]*client, 1200)
			for i := range clients {
				clients[i] = dial(t, s.addr(loopback))
				clients[i].ping(1)
			}
			before := descriptors(t, s.pid())
			r := s.run("-upgrade", "-binary", s.badSuccessor(f.way))
			wantRolledBack(t, s, r, f.reason)
			for i, c := range clients {
				c.Write([]byte("ping"))
				if err := expect(c, 1); err != nil {
					t.Fatalf("client %d: %v", i, err)
				}
			}
			if events := s.eventsOf(1); !strings.Contains(events, "returned") || strings.Contains(events, "fence") {
				t.Errorf("the journal does not tell of a return: %s", events)
			}
			checkDescriptors(t, s, before)
			s.upgrade()
			for _, c := range clients {
				c.ping(1)
			}
			s.alone()
			s.replay()
		})
	}
}
