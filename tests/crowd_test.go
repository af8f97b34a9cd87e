package tests

import (
	"slices"
	"testing"
	"time"

	"baton/internal/load"
)

// Not parallel: it measures what the machine can do.
func TestTwentyUpgradesUnderFiveHundredClients(t *testing.T) {
	s := newSpace(t)
	p := s.start()
	before := descriptors(t, p.pid())
	c := newCrowd(t, s.addr(loopback),
		load.Group{N: 330}, load.Group{N: 60, Split: true}, load.Group{N: 10, Slow: true}, load.Group{N: 80, Churn: true},
		load.Group{N: 20, Split: true, Churn: true})
	for i := range 20 {
		if i >= 10 { // the first ten are back to back
			time.Sleep(200 * time.Millisecond)
		}
		s.upgrade()
		if st := s.status(); st.Run != i+2 || st.LastHandoff == nil || st.LastHandoff.Moved < 300 {
			t.Fatalf("upgrade %d: %+v, %+v", i+1, st, st.LastHandoff)
		}
	}
	r := c.check()
	t.Logf("%d connections, %d frames; latency p99 %d µs, max %d µs; own delay p99 %d µs", r.Dialled, r.Frames,
		r.Latency.ValueAtQuantile(99)/1000, r.Latency.Max()/1000, r.OwnDelay.ValueAtQuantile(99)/1000)

	s.alone()
	waitFor(t, patience, "all sessions have ended", func() bool { return s.status().Sessions == 0 })
	st := s.status()
	if pids := processesOf(s.base); st.Run != 21 || st.PID != s.pid() || !slices.Equal(pids, []int{st.PID}) {
		t.Errorf("run %d, want 21; pid %d, server.pid %d, alive %v", st.Run, st.PID, s.pid(), pids)
	}
	checkDescriptors(t, s, before)
	s.replay()
}
