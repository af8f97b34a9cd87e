package tests

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/internal/load"
)

var (
	matrixAll    = flag.Bool("matrix.all", false, "every step with every way to die, and a large crowd; takes minutes")
	matrixOnly   = flag.String("matrix.only", "", "only the cases whose name contains this")
	matrixLanes  = flag.Int("matrix.lanes", 3, "cases side by side")
	matrixUpdate = flag.Bool("matrix.update", false, "rewrite the table in docs/survival.md")
)

// A passing is a step that a handoff which goes well comes by.
type passing struct {
	role, name string
	times      int
	order      int // of the first time, within the role
}

// A blow is one case of the matrix.
type blow struct {
	passing
	n      int // at the n-th time
	action string
}

func (b blow) String() string { return fmt.Sprintf("%s/%s/%d/%s", b.role, b.name, b.n, b.action) }

// An outcome is what a case has shown.
type outcome struct {
	blow
	survivor string // "predecessor", "successor" or "nobody"
	idle     string // "all", or "none"
}

func TestMatrix(t *testing.T) {
	steps := discover(t)
	if len(steps) < 60 {
		t.Fatalf("only %d steps were found: %v", len(steps), steps)
	}
	lent := slices.IndexFunc(steps, func(p passing) bool { return p.role == "predecessor" && p.name == "after-lend" })
	if lent < 0 {
		t.Fatalf("no step after-lend in %v", steps)
	}
	var cases []blow
	for _, p := range steps {
		actions := []string{"kill"}
		if *matrixAll {
			actions = []string{"kill", "stop", "panic"}
		}
		for _, a := range actions {
			cases = append(cases, blow{p, 1, a})
			if p.times > 1 && *matrixAll {
				cases = append(cases, blow{p, 2, a})
			}
		}
	}
	cases = slices.DeleteFunc(cases, func(b blow) bool { return !strings.Contains(b.String(), *matrixOnly) })
	var mu sync.Mutex
	var outcomes []outcome
	lanes(t, *matrixLanes, cases, blow.String, func(t *testing.T, b blow) {
		o := strike(t, b, b.role == "predecessor" && b.order < steps[lent].order && b.action != "stop")
		mu.Lock()
		defer mu.Unlock()
		outcomes = append(outcomes, o)
	})
	if *matrixOnly == "" && !t.Failed() {
		checkSurvivalPage(t, outcomes)
	}
}

// discover has a server hand over, and returns the steps that both sides passed.
func discover(t *testing.T) []passing {
	t.Helper()
	s := newSpace(t)
	list := filepath.Join(s.base, "list")
	p := s.stepServer(list, "list", beating...)
	h := newHerd(t, s.stepAddr(), census{idle: 150, groups: []load.Group{{N: 10, Churn: true, Interval: 20 * time.Millisecond}}})
	s.upgrade()
	p.exit(patience)
	h.finish()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*passing{}
	var all []*passing
	for line := range strings.Lines(string(text)) {
		role, name, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Fatalf("a step without a role: %q", line)
		}
		if found[line] == nil {
			found[line] = &passing{role: role, name: name, order: len(all)}
			all = append(all, found[line])
		}
		found[line].times++
	}
	steps := make([]passing, len(all))
	for i, p := range all {
		steps[i] = *p
	}
	slices.SortStableFunc(steps, func(a, b passing) int { return cmp.Compare(a.role, b.role) })
	return steps
}

// stepServer starts a server that looks out for a step.
func (s *space) stepServer(file, step string, args ...string) *process {
	s.t.Helper()
	cmd := s.command(programs.steps, append([]string{"-w", s.dir}, args...)...)
	cmd.Env = append(cmd.Env, "BATON_STEP="+step, "BATON_STEP_FILE="+file)
	p := s.launch(cmd)
	s.awaitReady(p)
	return p
}

func (s *space) stepAddr() string { return s.addr(loopback) }

// The timeouts of a case. Few steps need beats, and the others do not wait for them.
var (
	hasty   = []string{"-probation", "300ms"}
	beating = []string{"-probation", "800ms", "-beat", "300ms"}
	// A process that is stopped for stopped is missed by the other one after answer, or after two beats.
	strict = []string{"-probation", "1s", "-beat", "300ms", "-answer", "1s", "-hello", "3s", "-exit", "500ms"}
)

const stopped = 2500 * time.Millisecond

// strike hits a process at a step of a handoff, and looks at what is left. doomed says that nobody else had copies of the sockets yet.
func strike(t *testing.T, b blow, doomed bool) (o outcome) {
	o.blow = b
	args := hasty
	switch {
	case b.action == "stop":
		args = strict
	case strings.Contains(b.name, "beat") || strings.Contains(b.name, "round"):
		args = beating
	}
	s := newSpace(t)
	s.rude = true
	file := filepath.Join(s.base, "fired")
	first := s.stepServer(file, b.String(), args...)
	before := descriptors(t, first.pid())
	h := newHerd(t, s.stepAddr(), theirs())

	// The blow.
	victim := 0
	for try := 0; victim == 0; try++ {
		if try == 3 {
			t.Fatalf("no process has come to this step in %d handoffs", try)
		}
		up := s.launch(s.command(programs.server, "-w", s.dir, "-upgrade"))
		waitFor(t, patience, "the step", func() bool {
			victim = fired(file)
			return victim != 0 || up.hasEnded(0) && len(processesOf(s.base)) == 1
		})
		if victim != 0 && b.action == "stop" {
			time.Sleep(stopped)
			s.resume(victim)
		}
		up.exit(patience)
	}
	if b.action != "stop" {
		s.gone(victim)
	}

	// What is left.
	pid := s.awaitSurvivor()
	switch {
	case pid == 0:
		o.survivor = "nobody"
		if !doomed {
			t.Error("nobody is left")
		}
		s.startAs(programs.steps, args...)
	case pid == first.pid():
		o.survivor = "predecessor"
	default:
		o.survivor = "successor"
	}
	o.idle = "all"
	lost := h.idleLost()
	if len(lost) > 0 {
		if o.idle = "some"; len(lost) == len(h.idle) {
			o.idle = "none"
		}
		if !doomed {
			t.Errorf("%d of %d idle connections are lost: %v", len(lost), len(h.idle), lost[0].lost)
		}
	}

	// It can be replaced.
	if pid != 0 {
		s.upgrade()
		if again := h.idleLost(); len(again) > len(lost) {
			t.Errorf("%d idle connections are lost with the next upgrade", len(again)-len(lost))
		}
	} else if h.load != nil { // its listener's port is another one now: what dials goes on in vain
		h.abandon()
	}
	if pid == 0 {
		return o
	}
	losses, drops := h.finish()
	pid = s.awaitSurvivor()
	st := s.status()
	stand := 0
	for _, c := range h.idle {
		if c.lost == nil {
			stand++
		}
	}
	waitFor(t, patience, "only the idle sessions are left", func() bool { return s.status().Sessions == stand })
	books := s.books()
	books.explain(t, losses, doomed)
	books.checkOneServes(t)
	s.replay()
	for _, c := range h.idle {
		c.Close()
	}
	waitFor(t, patience, "all sessions have ended", func() bool { return s.status().Sessions == 0 })
	checkDescriptors(t, s, before)
	s.checkSockets(st.Run)
	t.Logf("%s: %s is left; idle: %s kept; %d connections lost", b, o.survivor, o.idle, drops)
	for _, l := range losses[:min(len(losses), 4)] {
		t.Logf("  %s %s: %s", l.kind, l.local, l.what)
	}
	return o
}

// theirs is the crowd of a case.
func theirs() census {
	n := census{idle: 20, half: 10, halfClosed: 1, groups: []load.Group{
		{N: 20}, {N: 6, Split: true}, {N: 2, Slow: true, Pile: 64 << 10, Pause: 200 * time.Millisecond},
		{N: 6, Churn: true, Interval: 20 * time.Millisecond},
	}}
	if *matrixAll {
		n = census{idle: 40, half: 20, halfClosed: 2, groups: []load.Group{
			{N: 90}, {N: 24, Split: true}, {N: 6, Slow: true, Pile: 64 << 10, Pause: 200 * time.Millisecond},
			{N: 20, Churn: true, Interval: 50 * time.Millisecond},
		}}
	}
	return n
}

func checkSurvivalPage(t *testing.T, outcomes []outcome) {}
