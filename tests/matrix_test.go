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

// shy is for steps that clients lead to, at any time: such a handoff may do without.
func (p passing) shy() bool {
	for _, word := range []string{"opened", "ended", "closed", "drop", "release", "retry", "broken"} {
		if strings.Contains(p.name, word) {
			return true
		}
	}
	return false
}

// step is what the process is told. To kill the other one at a step, this one stands still there.
func (b blow) step() string {
	if b.action == "other" {
		b.action = "stop"
	}
	return b.String()
}

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
	// Until the sockets are lent, they are the predecessor's alone; from the last BYE on, the successor's.
	lent, parted := find(t, steps, "predecessor", "after-lend"), find(t, steps, "successor", "after-send-bye")
	welcome, bye := find(t, steps, "successor", "on-welcome"), find(t, steps, "predecessor", "after-send-bye")
	var cases []blow
	for _, p := range steps {
		actions := []string{"kill"}
		if *matrixAll {
			actions = columns
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
		alone := b.role == "predecessor" && b.order < lent.order || b.role == "successor" && b.order >= parted.order
		if b.action == "other" { // which has done meanwhile what it could without this one
			alone = b.role == "successor" && b.order < welcome.order || b.role == "predecessor" && (b.order >= bye.order || b.order < 1)
		}
		alone = alone || b.role == "predecessor" && (b.name == "on-opened" || b.name == "on-ended") // before it has lent, too
		o := strike(t, b, alone && b.action != "stop")
		mu.Lock()
		defer mu.Unlock()
		outcomes = append(outcomes, o)
	})
	if *matrixOnly == "" && !t.Failed() {
		checkSurvivalPage(t, steps, outcomes)
	}
}

func find(t *testing.T, steps []passing, role, name string) passing {
	t.Helper()
	i := slices.IndexFunc(steps, func(p passing) bool { return p.role == role && p.name == name })
	if i < 0 {
		t.Fatalf("no step %s of the %s in %v", name, role, steps)
	}
	return steps[i]
}

// discover has a server hand over, and returns the steps that both sides passed. Some are only passed when a client comes or goes at the right
// moment, so it does that again until all that the page knows were seen, or for long enough.
func discover(t *testing.T) []passing {
	t.Helper()
	s := newSpace(t)
	list := filepath.Join(s.base, "list")
	s.stepServer(list, "list", beating...)
	h := newHerd(t, s.stepAddr(), census{idle: 150, groups: []load.Group{{N: 30, Churn: true, Interval: 10 * time.Millisecond}}})
	var steps []passing
	for i := range 12 {
		s.upgrade()
		s.alone()
		steps = readSteps(t, list)
		if i >= 2 && len(missingSteps(t, steps)) == 0 && !*matrixUpdate {
			break
		}
	}
	h.finish()
	return steps
}

func readSteps(t *testing.T, list string) []passing {
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
			steps = append(steps, passing{role: role, name: name, order: i})
		}
		times[line]++
		steps[i].times = max(steps[i].times, times[line])
	}
	slices.SortStableFunc(steps, func(a, b passing) int { return cmp.Compare(a.role, b.role) })
	return steps
}

// servers is the processes of the space that serve, or are about to.
func (s *space) servers() []int {
	return slices.DeleteFunc(processesOf(s.base), func(pid int) bool { return !strings.HasPrefix(command(pid), programs.steps) })
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
	first := s.stepServer(file, b.step(), args...)
	before := descriptors(t, first.pid())
	h := newHerd(t, s.stepAddr(), theirs(b))

	// The blow.
	victim, giver := 0, 0
	for try := 0; victim == 0; try++ {
		if try == 8 && (b.n > 1 || b.shy()) {
			t.Skip("no client has led to this step")
		}
		if try == 8 {
			t.Fatalf("no process has come to this step in %d handoffs", try)
		}
		giver = s.pid()
		up := s.launch(s.command(programs.server, "-w", s.dir, "-upgrade"))
		waitFor(t, patience, "the step", func() bool {
			over := up.hasEnded(0) && len(processesOf(s.base)) == 1
			victim = fired(file)
			return victim != 0 || over
		})
		switch {
		case victim == 0:
		case b.action == "stop":
			time.Sleep(stopped)
			s.resume(victim)
		case b.action == "other":
			time.Sleep(100 * time.Millisecond)
			other := slices.DeleteFunc(s.servers(), func(pid int) bool { return pid == victim })
			for _, pid := range other {
				s.kill(pid)
			}
			s.resume(victim)
		}
		up.exit(patience)
	}
	if b.action == "kill" || b.action == "panic" {
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
		s.startAfresh(args...)
	case pid == giver:
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
		t.Logf("%s: nobody is left", b)
		return o
	}
	losses, drops := h.finish()
	s.awaitSurvivor()
	st := s.status()
	stand := 0
	for _, c := range h.idle {
		if c.lost == nil {
			stand++
		}
	}
	waitFor(t, patience, "only the idle sessions are left", func() bool { return s.status().Sessions == stand })
	s.explain(losses).checkOneServes(t)
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
func theirs(b blow) census {
	n := census{idle: 20, half: 10, halfClosed: 2, groups: []load.Group{
		{N: 20}, {N: 6, Split: true}, {N: 2, Slow: true, Pile: 64 << 10, Pause: 200 * time.Millisecond},
		{N: 6, Churn: true, Interval: 20 * time.Millisecond},
	}}
	if *matrixAll {
		n = census{idle: 40, half: 20, halfClosed: 2, groups: []load.Group{
			{N: 90}, {N: 24, Split: true}, {N: 6, Slow: true, Pile: 64 << 10, Pause: 200 * time.Millisecond},
			{N: 20, Churn: true, Interval: 50 * time.Millisecond},
		}}
	}
	if b.role == "predecessor" && b.shy() { // it has little time for either
		n.groups[3] = load.Group{N: 40, Churn: true, Interval: 5 * time.Millisecond}
	}
	return n
}

// The page's table: for each step, what was kept when the process that passes it was hit there.

const (
	survivalPage = "../docs/survival.md"
	tableBegins  = "<!-- generated by go test ./tests -run Matrix -matrix.all -matrix.update -->\n"
	tableEnds    = "<!-- end of what is generated -->\n"
)

var columns = []string{"kill", "stop", "panic", "other"}

func (o outcome) cell() string {
	switch {
	case o.survivor == "nobody":
		return "nobody"
	case o.idle == "none":
		return o.survivor + ", new ones"
	}
	return o.survivor + ", " + o.idle
}

// pageRows is the table as it stands, by role and step.
func pageRows(t *testing.T) (rows map[string][]string, before, after string) {
	t.Helper()
	text, err := os.ReadFile(survivalPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), tableBegins)
	table, after, ok2 := strings.Cut(rest, tableEnds)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", survivalPage)
	}
	rows = map[string][]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		if len(cells) == 2+len(columns) && (cells[0] == "predecessor" || cells[0] == "successor") {
			rows[cells[0]+" "+cells[1]] = cells[2:]
		}
	}
	return rows, before, after
}

// missingSteps is what the page tells of and was not passed, but for the shy ones.
func missingSteps(t *testing.T, steps []passing) (missing []string) {
	rows, _, _ := pageRows(t)
	for _, p := range steps {
		delete(rows, p.role+" "+p.name)
	}
	for row := range rows {
		if _, name, _ := strings.Cut(row, " "); !(passing{name: name}).shy() {
			missing = append(missing, row)
		}
	}
	slices.Sort(missing)
	return missing
}

func checkSurvivalPage(t *testing.T, steps []passing, outcomes []outcome) {
	t.Helper()
	got := map[string]map[string]string{}
	for _, o := range outcomes {
		row := o.role + " " + o.name
		if got[row] == nil {
			got[row] = map[string]string{}
		}
		if o.n == 1 { // later nothing can be worse
			got[row][o.action] = o.cell()
		}
	}
	rows, before, after := pageRows(t)
	if *matrixUpdate {
		if !*matrixAll {
			t.Fatal("-matrix.update wants -matrix.all")
		}
		var b strings.Builder
		b.WriteString("| | step | it is killed | it is stopped for a while | it panics | the other one is killed |\n|---|---|---|---|---|---|\n")
		for _, p := range steps {
			fmt.Fprintf(&b, "| %s | `%s` |", p.role, p.name)
			for _, action := range columns {
				cell := got[p.role+" "+p.name][action]
				if cell == "" || p.name == "on-opened" || p.name == "on-ended" {
					cell = "as the steps before and after"
				}
				fmt.Fprintf(&b, " %s |", cell)
			}
			b.WriteString("\n")
		}
		if err := os.WriteFile(survivalPage, []byte(before+tableBegins+b.String()+tableEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, p := range steps {
		row := p.role + " " + p.name
		if rows[row] == nil && p.shy() {
			continue
		}
		if rows[row] == nil {
			t.Errorf("%s does not tell of step %s", survivalPage, row)
			continue
		}
		for i, action := range columns {
			if cell, ok := got[row][action]; ok && action != "stop" && !p.shy() && cell != rows[row][i] { // who is left after a stop is a matter of time
				t.Errorf("%s, %s: %q, and %s says %q", row, action, cell, survivalPage, rows[row][i])
			}
		}
	}
	for _, row := range missingSteps(t, steps) {
		t.Errorf("%s tells of step %s, which no handoff comes by", survivalPage, row)
	}
}
