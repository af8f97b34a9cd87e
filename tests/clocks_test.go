package tests

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"baton/journal"
)

// Clocks that jump. The wall clock is only told, never asked; of the monotonic clock, both sides must have the same one.

// negative is a time that has gone backwards, in the text of a replay.
var negative = regexp.MustCompile(`(^|\s)-[0-9][0-9.]*\s?(ns|µs|ms|s|m|h)`)

func TestWallClockJumps(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start("-read-timeout", "1m", "-probation", "300ms")
	idle := idlers(t, s.addr(loopback), 60)
	past, future := s.asOther("past", "WALL=-700000h"), s.asOther("future", "WALL=500000h") // 1946, and 2083
	run := 1
	for _, binary := range []string{past, future, past, programs.server} {
		s.upgrade("-binary", binary)
		checkIdlers(t, idle)
		s.alone()
		run++
		s.checkClocks(t, run)
		st := s.status().LastHandoff
		if limit := patience.Microseconds(); st.Pause.Max <= 0 || st.Pause.Max > limit || st.Took <= 0 || st.Took > float64(limit)/1000 || st.Total < st.Took {
			t.Errorf("%+v", st)
		}
	}
	opened := map[journal.ID]time.Time{}
	for _, l := range s.journals() {
		if wrong := time.Since(l.Run.Started).Abs() > time.Hour; wrong != (l.Run.Version == versionOther) {
			t.Errorf("the test is void: run %d started in %v", l.Run.Number, l.Run.Started)
		}
		for _, session := range l.Sessions {
			if first, ok := opened[session.ID]; ok && !first.Equal(session.Opened) {
				t.Errorf("run %d: session %v was opened at %v, and before at %v", l.Run.Number, session.ID, session.Opened, first)
			}
			opened[session.ID] = session.Opened
		}
	}
	// And between a stop and a start.
	s.stop()
	for _, binary := range []string{future, past} {
		run++
		s.startAs(binary, "-listen", loopback, "-probation", "300ms")
		dial(t, s.addr(loopback)).ping(1)
		s.upgrade("-binary", binary)
		s.alone()
		run++
		s.checkClocks(t, run)
		s.stop()
	}
	s.checkClocks(t, run)
}

// checkClocks fails the test if the replay does not tell of the newest handoff, or of times that have gone backwards.
func (s *space) checkClocks(t *testing.T, to int) {
	t.Helper()
	timeline := s.replay()
	if h := timeline.Handoff; h == nil || h.Successor.Run != to || h.Predecessor.Run != to-1 || h.TookMS < 0 {
		t.Errorf("the replay tells of %+v, want the handoff to run %d", timeline.Handoff, to)
	}
	if r := s.run("-replay"); r.code != 0 || negative.MatchString(r.stdout) {
		t.Errorf("-replay exits %d, and tells of times that have gone backwards (%q):\n%s", r.code, negative.FindString(r.stdout), r.stdout)
	}
}

// inTimeNamespace is the beginning of a command that runs a program where the monotonic clock is another one.
func inTimeNamespace(t *testing.T, seconds int) []string {
	t.Helper()
	words := []string{need(t, "unshare", "another clock"), "--time", "--monotonic", fmt.Sprint(seconds), "--"}
	if out, err := exec.Command(words[0], append(words[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("no time namespace can be made: %v %s", err, out)
	}
	return words
}

// A successor that reads another monotonic clock is turned away before anything moves. A server that lives in such a place upgrades there.
func TestOtherMonotonicClock(t *testing.T) {
	t.Parallel()
	away := inTimeNamespace(t, 1_000_000)
	s := newSpace(t)
	s.start("-read-timeout", "1m", "-probation", "300ms")
	idle := idlers(t, s.addr(loopback), 30)
	const want = "is in another time namespace than this run"
	wantRolledBack(t, s, s.run("-upgrade", "-binary", s.script("away", "exec "+strings.Join(away, " ")+" "+programs.server+` "$@"`)), want)
	r := s.runAs(s.command(filepath.Join(s.base, "away"), "-w", s.dir, "-listen", loopback, "-takeover"))
	if r.code != 1 || !strings.Contains(r.stderr, want) {
		t.Errorf("-takeover exits %d: %s", r.code, r.stderr)
	}
	if events := s.eventsOf(1); strings.Contains(events, " lend ") {
		t.Errorf("something was lent: %s", events)
	}
	checkIdlers(t, idle)
	s.upgrade()
	checkIdlers(t, idle)
	s.replay()

	there := newSpace(t)
	there.startAs(there.script("away", "exec "+strings.Join(away, " ")+" "+programs.server+` "$@"`), "-listen", loopback, "-read-timeout", "1m", "-probation", "300ms")
	idle = idlers(t, there.addr(loopback), 30)
	there.upgrade()
	checkIdlers(t, idle)
	if h := there.status().LastHandoff; h.Pause.Max <= 0 || h.Pause.Max > patience.Microseconds() {
		t.Errorf("%+v", h)
	}
	there.alone()
	there.replay()
}
