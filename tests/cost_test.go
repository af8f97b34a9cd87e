package tests

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a handoff costs the kernel for each session is a number of system calls, and that is the same on every machine: the difference between a
// handoff of many idle sessions and one of few.
func TestSystemCallsForEachSession(t *testing.T) {
	strace := need(t, "strace", "what a handoff costs in system calls")
	if os.Geteuid() != 0 {
		t.Skip("only root may trace a process that is not its child everywhere (ptrace_scope)")
	}
	const few, many = 200, 1200
	small, large := callsOfHandoff(t, strace, few), callsOfHandoff(t, strace, many)
	limits := map[string]float64{
		"getsockopt": 2,    // SO_COOKIE, once on either side
		"epoll_ctl":  2,    // ADD there, DEL here
		"close":      1,    // of the predecessor's copy
		"sendmsg":    0.25, // OFFER, TAKE and GIVE for 16, LEND for 252
		"recvmsg":    0.5,  // the same, and as often "nothing more"
		"read":       0.2,  // none for each session: what there is, is the loops' being woken
		"write":      0.2,
		"pwrite64":   0.4, // the journals' pages
		// The runtime's nanosleep, futex, epoll_pwait and sched_yield go by time, and strace takes much of it.
		"nanosleep": math.Inf(1), "futex": math.Inf(1), "epoll_pwait": math.Inf(1), "sched_yield": math.Inf(1),
	}
	for name := range large {
		per := (large[name] - small[name]) / (many - few)
		limit, ok := limits[name]
		if !ok {
			limit = 0.1
		}
		if per > limit+0.02 {
			t.Errorf("%s: %.2f for each session, want at most %v", name, per, limit)
		}
		if per > 0.01 {
			t.Logf("%-16s %.2f", name, per)
		}
	}
}

// callsOfHandoff counts the system calls of both sides, by name, from before the upgrade until the predecessor is gone.
func callsOfHandoff(t *testing.T, strace string, sessions int) map[string]float64 {
	t.Helper()
	s := newSpace(t)
	s.rude = true
	p := s.start("-read-timeout", "10m", "-probation", "1s")
	clients := idlers(t, s.addr(loopback), sessions)
	file := filepath.Join(s.base, "calls")
	// The successor is traced from its start, as a child is.
	tracer := launch(t, exec.Command(strace, "-f", "-c", "-S", "name", "-U", "calls,name", "-o", file, "-p", strconv.Itoa(p.pid())))
	waitFor(t, patience, "the server is traced", func() bool {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
		return strings.Contains(string(status), fmt.Sprintf("TracerPid:\t%d\n", tracer.pid()))
	})
	time.Sleep(100 * time.Millisecond) // for its other threads
	s.upgrade()
	s.alone()
	if st := s.status(); st.LastHandoff == nil || st.LastHandoff.Moved != sessions {
		t.Fatalf("not all of %d sessions were moved: %+v", sessions, st.LastHandoff)
	}
	s.kill(s.pid()) // before it could do more; the tracer ends with the last that it traces
	tracer.exit(patience)
	for _, c := range clients {
		c.Close()
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		var n float64
		var name string
		if _, err := fmt.Sscan(line, &n, &name); err == nil && name != "total" && !strings.Contains(name, "?") { // which is what it sees of a killed process
			calls[name] = n
		}
	}
	if calls["epoll_ctl"] == 0 {
		t.Fatalf("no epoll_ctl was counted in\n%s", text)
	}
	return calls
}
