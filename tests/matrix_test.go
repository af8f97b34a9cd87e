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
	matrixUpdate = flag.Bool("matrix.update", false, "rewrite the tables in docs/survival.md")
)

// A course is one that a handoff can take. The steps of the first one are all that it comes by; those of the others are what they alone come by.
type course struct {
	name, title string
	program     string   // how the successor is called: see stepserver's moody
	asks        string   // what the moody client asks for before the handoff; "" = it is silent
	args        []string // of the servers
	until       string   // the predecessor's step from which it is alone
	alone       string   // the successor's step from which the predecessor is
}

// The courses that are gone through.
var (
	forth = &course{name: "forth", title: "A handoff that goes well"}
	back  = &course{name: "back", title: "On the way back: the successor refused a session after it had been given others",
		program: "refuses", until: "back-after-send-done", alone: "back-after-send-done"}
	late = &course{name: "late", title: "On the way back from probation: the successor served, had accepted others, and refused a straggler",
		program: "refuses", asks: "wait", until: "back-after-send-done", alone: "back-after-send-done"}
	fenced = &course{name: "fenced", title: "To the end of a successor that was given some, and is silent then",
		program: "hangs", args: []string{"-answer", "700ms"}, until: "back-after-fence"}

	courses = []*course{forth, back, late, fenced}
)

// A passing is a step that a handoff comes by.
type passing struct {
	course     *course
	role, name string
	times      int
	order      int // of the first time, within the role
}

func (p passing) String() string { return p.course.name + "/" + p.role + "/" + p.name }

// shy is for steps that clients lead to at any time, or an answer that crosses with ABORT: such a handoff may do without.
func (p passing) shy() bool {
	for _, word := range []string{
		"opened", "ended", "closed", "drop", "release", "retry", "broken", "predecessor/back-on-take", "predecessor/back-on-journaled",
	} {
		if strings.Contains(p.String(), word) {
			return true
		}
	}
	return false
}

// anytime is for steps that clients lead to before and after those that decide who could go on alone.
func (p passing) anytime() bool {
	return strings.HasSuffix(p.name, "on-opened") || strings.HasSuffix(p.name, "on-ended")
}

// A blow is one case of the matrix.
type blow struct {
	passing
	n      int // at the n-th time
	action string
}

func (b blow) String() string { return fmt.Sprintf("%s/%d/%s", b.passing, b.n, b.action) }

// step is what the process is told. To kill the other one at a step, this one stands still there.
func (b blow) step() string {
	if b.action == "other" {
		b.action = "stop"
	}
	return fmt.Sprintf("%s/%s/%d/%s", b.role, b.name, b.n, b.action)
}

// columns are what happens at a step: to the process that passes it, and to the other one.
var columns = []string{"kill", "stop", "panic", "other"}

func TestMatrix(t *testing.T) {
	found := map[*course][]passing{}
	for _, c := range courses {
		t.Run("discover "+c.name, func(t *testing.T) { found[c] = discover(t, c, found[forth]) })
	}
	if len(found[forth]) < 60 || len(found[back]) < 30 || len(found[late]) < 30 || len(found[fenced]) < 8 {
		t.Fatalf("too few steps were found: %v", found)
	}
	var cases []blow
	for _, c := range courses {
		for _, p := range found[c] {
			cases = append(cases, blows(p, found)...)
		}
	}
	cases = slices.DeleteFunc(cases, func(b blow) bool { return !strings.Contains(b.String(), *matrixOnly) })
	var mu sync.Mutex
	var outcomes []outcome
	lanes(t, *matrixLanes, cases, blow.String, func(t *testing.T, b blow) {
		o := strike(t, b, doomed(t, b, found[b.course]))
		mu.Lock()
		defer mu.Unlock()
		outcomes = append(outcomes, o)
	})
	if *matrixOnly == "" && !t.Failed() {
		checkSurvivalPage(t, found, outcomes)
	}
}

// blows are what is done at a step. The courses that lead back have many in common: there, all is done on the first of them.
func blows(p passing, found map[*course][]passing) (cases []blow) {
	actions := []string{"kill"}
	switch {
	case !*matrixAll && p.course != forth && (p.shy() || strings.Contains(p.name, "before-") || p.course == back && isAmong(found[late], p)):
		return nil // for want of time. What something stands before has most likely come after the step that was there first
	case *matrixAll && !isCommon(found, p):
		actions = columns
	}
	for _, a := range actions {
		cases = append(cases, blow{p, 1, a})
		if p.times > 1 && *matrixAll && p.course == forth {
			cases = append(cases, blow{p, 2, a})
		}
	}
	return cases
}

// isCommon reports whether a step is one of the first course that leads back, too.
func isCommon(found map[*course][]passing, p passing) bool {
	return p.course != forth && p.course != back && isAmong(found[back], p)
}

// isAmong reports whether a step is one of these, whatever the course.
func isAmong(steps []passing, p passing) bool {
	return slices.ContainsFunc(steps, func(o passing) bool { return o.role == p.role && o.name == p.name })
}

// doomed reports whether nobody but the process that is to die may have what it would take to go on for it.
func doomed(t *testing.T, b blow, steps []passing) bool {
	at := func(role, name string) int { return find(t, steps, role, name).order }
	switch {
	case b.action == "stop":
		return false
	case b.course != forth && b.anytime(): // before the last word, or after it
		return true
	case b.course != forth && b.action == "other": // which has done meanwhile what it could without this one
		return b.role == "successor" && b.order >= at("successor", b.course.alone)
	case b.course != forth:
		return b.role == "predecessor" && b.order >= at("predecessor", b.course.until)
	case b.role == "predecessor" && b.anytime(): // before it has lent, too
		return true
	case b.action == "other" && b.role == "successor":
		return b.order < at("successor", "on-welcome")
	case b.action == "other":
		return b.order >= at("predecessor", "after-send-bye") || b.order < 1
	case b.role == "predecessor": // until the sockets are lent, they are its alone
		return b.order < at("predecessor", "after-lend")
	}
	return b.order >= at("successor", "after-send-bye") // from here they are the successor's
}

func find(t *testing.T, steps []passing, role, name string) passing {
	t.Helper()
	i := slices.IndexFunc(steps, func(p passing) bool { return p.role == role && p.name == name })
	if i < 0 {
		t.Fatalf("no step %s of the %s in %v", name, role, steps)
	}
	return steps[i]
}

// discover has a server hand over, and returns the steps that both sides passed and that are not known. Some are only passed when a client
// comes or goes at the right moment, so it does that again until all that the page knows were seen, or for long enough.
func discover(t *testing.T, c *course, known []passing) (steps []passing) {
	t.Helper()
	s := newSpace(t)
	list := filepath.Join(s.base, "list")
	s.stepServer(list, "list", c.arguments(beating)...)
	n := census{idle: 150, groups: []load.Group{{N: 30, Churn: true, Interval: 10 * time.Millisecond}}}
	h := newHerd(t, s.stepAddr(), n)
	m := newMoodyClient(s, c)
	rounds := 12
	if c != forth {
		rounds = 6
	}
	for i := range rounds {
		m.ask()
		s.handOver(c).exit(patience)
		s.alone()
		m.listen()
		steps = readSteps(t, c, list)
		steps = slices.DeleteFunc(steps, func(p passing) bool { return isKnown(t, p, known) })
		if i >= 2 && len(missingSteps(t, c, steps)) == 0 && !*matrixUpdate {
			break
		}
	}
	h.finish()
	s.checkSockets(s.status().Run)
	return steps
}

// isKnown reports whether a handoff that goes well comes by a step as well: it did, or the page says so.
func isKnown(t *testing.T, p passing, known []passing) bool {
	if p.course == forth {
		return false
	}
	if isAmong(known, p) {
		return true
	}
	p.course = forth
	rows, _, _ := pageRows(t)
	return rows[p.String()] != nil
}

func readSteps(t *testing.T, c *course, list string) []passing {
	t.Helper()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	var steps []passing
	times := map[string]int{} // by process
	for line := range strings.Lines(string(text)) {
		var pid int
		var role, name string
		if n, err := fmt.Sscan(line, &pid, &role, &name); n != 3 {
			t.Fatalf("%q is not a step: %v", line, err)
		}
		i := slices.IndexFunc(steps, func(p passing) bool { return p.role == role && p.name == name })
		if i < 0 {
			i = len(steps)
			steps = append(steps, passing{course: c, role: role, name: name, order: i})
		}
		times[line]++
		steps[i].times = max(steps[i].times, times[line])
	}
	slices.SortStableFunc(steps, func(a, b passing) int { return cmp.Compare(a.role, b.role) })
	return steps
}
