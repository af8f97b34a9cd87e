package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/internal/load"
)

// One case of the matrix: a handoff, a blow, and a look at what is left.

// An outcome is what a case has shown.
type outcome struct {
	blow
	survivor string // "predecessor", "successor" or "nobody"
	idle     string // "all", "some" or "none"
}

// A trial is a case that is going on.
type trial struct {
	outcome
	t      *testing.T
	s      *space
	args   []string
	doomed bool       // nobody but the one that is hit may be able to go on with the connections
	atRest belongings // of a server to which nothing has happened
	herd   *herd
	moody  *moodyClient
	giver  int // pid of the predecessor in the handoff that was struck
	victim int // of the process that came to the step
	killed int // of the other one, if that was killed
	lost   []loss
}

// strike hits a process at a step of a handoff, and looks at what is left.
func strike(t *testing.T, b blow, doomed bool) outcome {
	tr := &trial{t: t, s: newSpace(t), outcome: outcome{blow: b}, doomed: doomed}
	tr.begin()
	tr.provoke()
	pid := tr.s.awaitSurvivor()
	tr.judge(pid)
	if pid == 0 {
		tr.startAnew()
		return tr.outcome
	}
	tr.lookAtSurvivor()
	tr.replaceSurvivor()
	t.Logf("%s: %s is left; idle: %s kept; %d connections lost", b, tr.survivor, tr.idle, len(tr.lost))
	for _, l := range tr.lost[:min(len(tr.lost), 4)] {
		t.Logf("  %s %s: %s", l.kind, l.local, l.what)
	}
	return tr.outcome
}

// The timeouts of a case. Few steps need beats, and the others do not wait for them.
var (
	hasty   = []string{"-probation", "300ms"}
	beating = []string{"-probation", "800ms", "-beat", "300ms"}
	// A process that is stopped is missed by the other one after answer, or after two beats.
	strict = []string{"-probation", "1s", "-beat", "300ms", "-answer", "1s", "-hello", "3s", "-exit", "500ms"}
	// There is no probation to be seen on the way back.
	stricter = []string{"-probation", "300ms", "-beat", "200ms", "-answer", "800ms", "-hello", "3s", "-exit", "500ms"}
)

// stopped is for how long a process is.
func (b blow) stopped() time.Duration {
	if b.course == forth {
		return 2500 * time.Millisecond
	}
	return 1500 * time.Millisecond
}

func (b blow) timeouts() []string {
	switch {
	case b.action == "stop" && b.course == forth:
		return strict
	case b.action == "stop":
		return stricter
	case strings.Contains(b.name, "beat") || strings.Contains(b.name, "round"):
		return beating
	}
	return hasty
}

// arguments are those of the servers that take a course, with these timeouts.
func (c *course) arguments(timeouts []string) []string {
	args := append(slices.Clone(timeouts), c.args...)
	if c.program != "" {
		args = append(args, "-moody")
	}
	return args
}

// begin starts the server, and has a crowd connected to it.
func (tr *trial) begin() {
	s := tr.s
	s.rude = true
	tr.args = tr.course.arguments(tr.timeouts())
	s.stepServer(tr.file(), tr.step(), tr.args...)
	tr.atRest = s.belongings()
	tr.herd = newHerd(tr.t, s.stepAddr(), theirs(tr.blow))
	tr.moody = newMoodyClient(s, tr.course) // its session is the newest, so it is offered last
}

// file says which process has come to the step.
func (tr *trial) file() string { return filepath.Join(tr.s.base, "fired") }

// provoke has the server hand over until a process has come to the step, and the handoff to its end.
func (tr *trial) provoke() {
	for try := 0; tr.victim == 0; try++ {
		if try == 8 && (tr.n > 1 || tr.shy()) {
			tr.t.Skip("no client has led to this step")
		}
		if try == 8 {
			tr.t.Fatalf("no process has come to this step in %d handoffs", try)
		}
		tr.moody.ask()
		tr.giver = tr.s.pid()
		up := tr.s.handOver(tr.course)
		waitFor(tr.t, patience, "the step", func() bool {
			over := up.hasEnded(0) && len(processesOf(tr.s.base)) == 1
			tr.victim = fired(tr.file())
			return tr.victim != 0 || over
		})
		if tr.victim != 0 {
			tr.goThrough()
		}
		up.exit(patience)
	}
	if tr.action == "kill" || tr.action == "panic" {
		tr.s.gone(tr.victim)
	}
}

// goThrough continues the process that has come to the step, if it only stands still there, when all is done that is to be done meanwhile.
func (tr *trial) goThrough() {
	switch tr.action {
	case "stop":
		time.Sleep(tr.stopped())
	case "other":
		time.Sleep(100 * time.Millisecond)
		for _, pid := range tr.s.servers() {
			if pid != tr.victim {
				tr.killed = pid
				syscall.Kill(pid, syscall.SIGKILL) // unless it has just ended by itself
				tr.s.gone(pid)
			}
		}
	}
	tr.s.resume(tr.victim)
}

// judge looks at who is left, with what.
func (tr *trial) judge(pid int) {
	switch pid {
	case 0:
		tr.survivor = "nobody"
	case tr.giver:
		tr.survivor = "predecessor"
	default:
		tr.survivor = "successor"
	}
	if want := tr.expected(); tr.survivor != want && want != "" && !(tr.doomed && tr.survivor == "nobody") {
		tr.t.Errorf("%s is left, want the %s", tr.survivor, want)
	}
	if tr.survivor == "nobody" && !tr.doomed {
		tr.t.Error("nobody is left")
	}
	tr.idle = "all"
	if lost := tr.herd.idleLost(); len(lost) > 0 {
		if tr.idle = "some"; len(lost) == len(tr.herd.idle) {
			tr.idle = "none"
		}
		if !tr.doomed {
			tr.t.Errorf("%d of %d idle connections are lost: %v", len(lost), len(tr.herd.idle), lost[0].lost)
		}
	}
}

// expected is who should be left; "" if that is a matter of time.
func (tr *trial) expected() string {
	other := map[string]string{"predecessor": "successor", "successor": "predecessor"}
	switch {
	case tr.action == "kill", tr.action == "panic":
		return other[tr.role]
	case tr.action == "other" && tr.killed != 0:
		return tr.role
	}
	return ""
}

// startAnew starts a server where none is left. It says what was lost, though those who look for it do so at another port.
func (tr *trial) startAnew() {
	s, h := tr.s, tr.herd
	s.startAfresh(tr.args...)
	h.abandon()
	for _, c := range h.idle {
		tr.lost = append(tr.lost, loss{local: c.LocalAddr().String(), kind: "idle", what: c.lost.Error(), open: time.Hour})
	}
	s.explain(tr.lost, tr.stood())
	s.upgrade("-binary", programs.steps)
	s.alone()
	s.checkBelongings(tr.t, tr.atRest, 0)
	s.checkSockets(s.status().Run)
	tr.t.Logf("%s: nobody is left", tr.blow)
}

// stood is for how long one of the two stood still.
func (b blow) stood() time.Duration {
	if b.action == "stop" {
		return b.stopped()
	}
	return 0
}

// lookAtSurvivor has the crowd read to the end, but for the idle, and compares what is left with what should be.
func (tr *trial) lookAtSurvivor() {
	s := tr.s
	tr.lost, _ = tr.herd.finish()
	tr.lost = append(tr.lost, tr.moody.finish()...)
	stand := tr.herd.standing()
	waitFor(tr.t, patience, "only the idle sessions are left", func() bool { return s.status().Sessions == stand })
	s.explain(tr.lost, tr.stood()).checkOneServes(tr.t)
	s.replay()
	s.checkBelongings(tr.t, tr.atRest, stand)
	s.checkSockets(s.status().Run)
}

// replaceSurvivor upgrades once more, under another crowd and with the idle ones that have gone through all this, and ends.
func (tr *trial) replaceSurvivor() {
	s, h := tr.s, tr.herd
	stand := h.standing()
	fresh := newHerd(tr.t, s.stepAddr(), census{idle: 2, groups: []load.Group{
		{N: 10, Interval: 10 * time.Millisecond}, {N: 4, Split: true}, {N: 4, Churn: true, Interval: 10 * time.Millisecond},
	}})
	s.upgrade("-binary", programs.steps)
	if lost := stand - (len(h.idle) - len(h.idleLost())); lost > 0 {
		tr.t.Errorf("%d idle connections are lost with the next upgrade", lost)
	}
	if lost, drops := fresh.finish(); drops > 0 {
		tr.t.Errorf("%d connections are lost with the next upgrade: %v", drops, lost)
	}
	s.awaitSurvivor()
	h.close()
	fresh.close()
	waitFor(tr.t, patience, "all sessions have ended", func() bool { return s.status().Sessions == 0 })
	s.books().checkOneServes(tr.t)
	s.replay()
	s.checkBelongings(tr.t, tr.atRest, 0)
	s.checkSockets(s.status().Run)
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
	switch {
	case b.course == late: // some are to be accepted by the successor
		n.groups[3] = load.Group{N: 20, Churn: true, Interval: 20 * time.Millisecond}
	case b.course != forth && !*matrixAll: // more than one offer
		n.groups[0].N += 30
	case b.role == "predecessor" && b.shy(): // it has little time for either
		n.groups[3] = load.Group{N: 40, Churn: true, Interval: 5 * time.Millisecond}
	}
	return n
}

// A moodyClient has the session that makes a handoff fail.
type moodyClient struct {
	*client
	asks string
	owed int // pongs
	lost error
}

// newMoodyClient connects one if the course has need of it.
func newMoodyClient(s *space, c *course) *moodyClient {
	if c.program == "" {
		return &moodyClient{}
	}
	m := &moodyClient{client: dial(s.t, s.addr("moody://127.0.0.1:0")), asks: c.asks}
	m.ping(1)
	return m
}

// ask has the session do what the handoff is to meet.
func (m *moodyClient) ask() {
	if m.asks != "" {
		m.send(m.asks)
		m.owed++
	}
}

// listen takes what is owed.
func (m *moodyClient) listen() {
	if m.client != nil && m.lost == nil {
		m.lost = expect(m.TCPConn, m.owed)
		m.owed = 0
	}
}

// finish ends the connection, and tells if it was lost before.
func (m *moodyClient) finish() []loss {
	if m.client == nil {
		return nil
	}
	m.Write([]byte("ping"))
	m.owed++
	m.listen()
	m.Close()
	if m.lost == nil {
		return nil
	}
	if strings.Contains(m.lost.Error(), "wrong bytes") {
		m.t.Errorf("moody connection %v: %v", m.LocalAddr(), m.lost)
	}
	return []loss{{local: m.LocalAddr().String(), kind: "moody", what: m.lost.Error(), open: time.Hour}}
}

// handOver asks for an upgrade that takes this course.
func (s *space) handOver(c *course) *process {
	s.t.Helper()
	binary := programs.steps
	if c.program != "" {
		binary += "-" + c.program
		if err := os.Symlink(programs.steps, binary); err != nil && !os.IsExist(err) {
			s.t.Fatal(err)
		}
	}
	return s.launch(s.command(programs.server, "-w", s.dir, "-upgrade", "-binary", binary))
}
