package tests

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Five thousand clients that say nothing lose nothing, whichever of the two dies in probation, and however long both stand still.

const multitude = 5000

// idleMultitude dials many connections, each of which has had one answer, and every third of which has sent half a frame since.
func idleMultitude(t *testing.T, addr string) []*idler {
	t.Helper()
	all := make([]*idler, multitude)
	for i := range all {
		all[i] = &idler{client: dial(t, addr)}
		all[i].send("ping")
	}
	for i, c := range all {
		c.expect(1)
		if i%3 == 0 {
			c.send("pi")
			c.owes = "ng"
		}
	}
	return all
}

// checkMultitude has every connection answer.
func checkMultitude(t *testing.T, all []*idler) {
	t.Helper()
	lost := 0
	var mu sync.Mutex
	var asking sync.WaitGroup
	for part := range 8 {
		asking.Go(func() {
			for i := part; i < len(all); i += 8 {
				if !all[i].stands() {
					mu.Lock()
					lost++
					mu.Unlock()
				}
			}
		})
	}
	asking.Wait()
	if lost > 0 {
		t.Errorf("%d of %d idle connections are lost", lost, len(all))
		for _, c := range all {
			if c.lost != nil {
				t.Errorf("the first: %v: %v", c.LocalAddr(), c.lost)
				break
			}
		}
	}
}

func TestFiveThousandIdleConnectionsStand(t *testing.T) {
	for _, victim := range []string{"successor", "predecessor", "both stopped, the successor goes on first", "both stopped, the predecessor goes on first"} {
		t.Run(victim, func(t *testing.T) {
			s := newSpace(t)
			s.rude = true
			probation := "3s"
			if strings.Contains(victim, "predecessor goes on") {
				probation = "1m" // it is not over when that goes on
			}
			p := s.start("-read-timeout", "10m", "-probation", probation)
			clients := idleMultitude(t, s.addr(loopback))
			s.upgrade()
			q := s.pid()
			survivor := 0
			switch began := time.Now(); victim {
			case "successor":
				survivor = p.pid()
				s.kill(q)
				s.awaitSurvivor()
				t.Logf("taken back after %v", time.Since(began))
			case "predecessor":
				survivor = q
				s.kill(p.pid())
				s.awaitSurvivor()
			case "both stopped, the predecessor goes on first":
				survivor = p.pid()
				s.signal(p.pid(), syscall.SIGSTOP)
				s.signal(q, syscall.SIGSTOP)
				time.Sleep(2 * time.Second)
				s.signal(p.pid(), syscall.SIGCONT)
				s.gone(q) // it misses its beats
				s.awaitSurvivor()
			case "both stopped, the successor goes on first":
				survivor = q
				s.signal(p.pid(), syscall.SIGSTOP)
				s.signal(q, syscall.SIGSTOP)
				time.Sleep(4 * time.Second)
				s.signal(q, syscall.SIGCONT)
				checkMultitude(t, clients[:50]) // the one that was continued first serves
				s.signal(p.pid(), syscall.SIGCONT)
			}
			checkMultitude(t, clients)
			s.awaitSurvivor()
			if st := s.status(); st.PID != survivor || st.Sessions != len(clients) {
				t.Errorf("pid %d serves %d sessions, want pid %d and %d", st.PID, st.Sessions, survivor, len(clients))
			}
			s.upgrade()
			checkMultitude(t, clients)
			s.books().checkOneServes(t)
			for _, c := range clients {
				c.Close()
			}
			s.replay()
		})
	}
}
