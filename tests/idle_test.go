package tests

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// Five thousand clients that say nothing lose nothing, whichever of the two dies in probation, and however long both stand still.

const multitude = 5000

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
			clients := idlers(t, s.addr(loopback), multitude)
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
				checkIdlers(t, clients[:50]) // the one that was continued first serves
				s.signal(p.pid(), syscall.SIGCONT)
			}
			checkIdlers(t, clients)
			s.awaitSurvivor()
			if st := s.status(); st.PID != survivor || st.Sessions != len(clients) {
				t.Errorf("pid %d serves %d sessions, want pid %d and %d", st.PID, st.Sessions, survivor, len(clients))
			}
			s.upgrade()
			checkIdlers(t, clients)
			s.books().checkOneServes(t)
			for _, c := range clients {
				c.Close()
			}
			s.replay()
		})
	}
}
