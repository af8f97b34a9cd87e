package protocol

import (
	"fmt"

	"baton/fsm"
	"baton/handoff/wire"
	"baton/internal/session"
)

// A world is both machines, real ones, with all that is around them as a model: a process, a state, listeners, timers, a journal and a
// connection layer for each, and an ordered channel between them. It does what they say, watches that nobody does what must never be
// done, and says what may happen next. Transcripts and the simulation choose.
type world struct {
	p, s     side
	pm       *Predecessor
	sm       *Successor
	sessions map[ID]*sess
	nextID   uint64
	log      func(line string)
	wrong    []string // rules that were broken
	doing    Output   // by whichever side

	journal   []Intend // not answered yet
	intended  map[int]bool
	offers    int  // that P has made and not heard of
	cutOff    bool // nothing goes through the channel any more
	fenced    bool // the successor is being killed
	killed    bool // it was
	impatient bool // a timer has run out in P that waits for an answer
	handed    bool
	reported  []string

	weighed  bool // the successor will do
	let      bool // a session was given, there or back
	saidDone bool // by P, on the way there
	saidBye  bool // by P
	aborted  bool // ABORT was said by P
	saidBack bool // DONE, by P, on the way back

	mutant  *mutant // what is wrong with a machine on purpose; nil = nothing
	lied    bool    // something was said that its machine has not said
	trouble bool    // the search has had something happen that may change the outcome

	liar bool // the other side says what it likes: one can only keep one's own house in order

	// What goes differently, for once.
	unfit, noAdopt, noBorrow, noRoom, noJournal bool
	refuseMoves                                 map[State]bool
	refuse, unsavable                           map[ID]bool
}

// A side is one of the two processes.
type side struct {
	name         string
	alive, begun bool
	state        fsm.State
	accepting    bool
	mail         []mail // on its way to this side
	posted       []Input
	timers       map[Timer]bool
	toldDeath    bool
	toldBroken   bool
	end          *End
	parted       bool
	hungUp       bool // it has closed the channel
	stopped      bool // by SIGSTOP: it does nothing for now
	asked        bool // to end
	actsLeft     int  // outputs until it dies in the middle of a step; < 0 = it does not
}

type mail struct {
	m    wire.Message
	lent []ID // sockets with it
}

// A sess is a session, as it is for its client and for each side.
type sess struct {
	id    ID
	pos   int  // what the client has seen done
	ended bool // by its owner
	stuck bool // its handler never returns
	lost  string

	p         pView
	pPos      int
	late      int // written while it was frozen
	copied    bool
	busy      bool
	finishing bool
	sent      bool // GIVE is on the channel
	told      bool // CLOSED is on the channel

	s        holding
	sPos     int
	sentBack bool // S's GIVE is on the channel
	lentBack bool // P has a copy, as far as S knows
}

// pView is what a session is for the predecessor.
type pView uint8

const (
	absent pView = iota
	ours
	frozen
	moved
	closed
	pBorrowed // accepted there, and lent to us
	pTaken    // on its way back
)

func (v pView) String() string {
	return [...]string{"does not know", "serves", "has frozen", "has given", "has ended", "has the socket of", "has taken back"}[v]
}

// What a session is for the successor, on the way back.
const (
	sFrozen holding = 100 + iota
	sGone           // given back
)

var heldAs = map[holding]string{
	nothing: "has not", borrowed: "has the socket of", taken: "has taken", owned: "serves", sFrozen: "has frozen", sGone: "has given back",
}

func newWorld(opt Options, sessions int) *world {
	w := &world{
		pm: NewPredecessor(opt), sm: NewSuccessor(opt), sessions: map[ID]*sess{}, log: func(string) {},
		intended: map[int]bool{}, refuseMoves: map[State]bool{}, refuse: map[ID]bool{}, unsavable: map[ID]bool{},
	}
	w.p = side{name: "P", alive: true, state: fsm.Preparing, accepting: true, timers: map[Timer]bool{}, actsLeft: -1}
	w.s = side{name: "S", alive: true, state: fsm.Adopting, timers: map[Timer]bool{}, actsLeft: -1}
	for range sessions {
		w.open(&w.p)
	}
	return w
}

// rules of docs/design.md, as far as the machines have to keep them.
var rules = [...]string{
	0: "what a machine owes its driver, see doc.go",
	1: "one owner",
	2: "intent ahead",
	3: "fence before you take back",
	4: "the survivor keeps what it can prove",
	5: "failure leads back to Serving",
	6: "only the workspace's owner gets in",
}

func ruleName(rule int) string { return fmt.Sprintf("rule %d, %s", rule, rules[rule]) }

// foul notes that a rule was broken.
func (w *world) foul(rule int, format string, args ...any) {
	w.wrong = append(w.wrong, ruleName(rule)+": "+fmt.Sprintf(format, args...))
	w.log("WRONG: " + w.wrong[len(w.wrong)-1])
}

func (w *world) sides() [2]*side { return [2]*side{&w.p, &w.s} }

func (w *world) side(name string) *side {
	if name == "P" {
		return &w.p
	}
	return &w.s
}

func (w *world) other(x *side) *side {
	if x == &w.p {
		return &w.s
	}
	return &w.p
}

// put drives a machine as package handoff does.
func (w *world) put(x *side, in Input) {
	if !x.alive || x.end != nil {
		return
	}
	w.log(x.name + " ← " + describe(in))
	outs := w.step(x, in)
	for i, out := range outs {
		if isQuestion(out) && i < len(outs)-1 {
			w.foul(0, "%s asks %s and goes on with %s", x.name, describe(out), describe(outs[i+1]))
		}
		if x.actsLeft == 0 {
			w.log(x.name + " dies before: " + describe(out))
			w.die(x)
		}
		if !x.alive {
			return
		}
		x.actsLeft--
		w.log("    " + describe(out))
		w.doing = out
		for _, answer := range w.perform(x, out) {
			w.put(x, answer)
		}
	}
}

// step asks a machine, or what a mutant makes of it.
func (w *world) step(x *side, in Input) []Output {
	step := w.pm.Step
	if x == &w.s {
		step = w.sm.Step
	}
	if w.mutant != nil && w.mutant.side == x.name {
		return w.mutant.step(w, in, step)
	}
	return step(in)
}

func (w *world) perform(x *side, out Output) []Input {
	if x == &w.p {
		return w.performP(out)
	}
	return w.performS(out)
}

func isQuestion(out Output) bool {
	switch out.(type) {
	case Greet, Move, Lend, Freeze, LetGo, StopAccepting, Adopt, Borrow, Take, Promote:
		return true
	}
	return false
}

// performBoth does what either side may say.
func (w *world) performBoth(x *side, out Output) (answers []Input, done bool) {
	switch out := out.(type) {
	case Send:
		w.send(x, mail{m: out.Message})
	case Move:
		if err := fsm.Check(x.state, fsm.State(out.To)); err != nil {
			w.foul(0, "%s: %v", x.name, err)
		}
		if out.Rescue && w.p.alive && !w.liar {
			w.foul(3, "%s moves to %s as if P were dead", x.name, out.To)
		}
		if w.refuseMoves[out.To] && fsm.Forward(x.state, fsm.State(out.To)) && !out.Rescue {
			return []Input{MoveRefused{"the disk is full"}}, true
		}
		x.state = fsm.State(out.To)
		return []Input{Moved{}}, true
	case SetTimer:
		x.timers[out.Timer] = true
	case Accept:
		x.accepting = true
	case Report:
		w.reported = append(w.reported, out.Text)
	case End:
		x.end = &out
		w.atEnd(x)
	default:
		return nil, false
	}
	return nil, true
}

func (w *world) send(x *side, m mail) {
	to := w.other(x)
	w.watchWords(x, m.m)
	switch m := m.m.(type) {
	case *wire.Give:
		for _, id := range m.IDs {
			if s := w.sessions[id]; x == &w.p {
				s.sent = w.heard(to)
			} else {
				s.sentBack = w.heard(to)
			}
		}
	case *wire.Closed:
		for _, id := range m.IDs {
			w.sessions[id].told = w.heard(to)
		}
	case *wire.Offer:
		if w.offers++; w.offers > w.pm.opt.MaxOffers {
			w.foul(0, "%d offers are unanswered", w.offers)
		}
	}
	if w.heard(to) {
		to.mail = append(to.mail, m)
	}
}

// heard reports whether what is said now arrives at x.
func (w *world) heard(x *side) bool { return x.alive && !x.hungUp && !w.cutOff }

// all yields the sessions in order.
func (w *world) all(yield func(*sess) bool) {
	for n := range w.nextID {
		if s := w.sessions[session.MakeID(7, n+1)]; s != nil && !yield(s) {
			return
		}
	}
}

// where returns the sessions for which f holds, in order.
func (w *world) where(f func(*sess) bool) (ids []ID) {
	for s := range w.all {
		if f(s) {
			ids = append(ids, s.id)
		}
	}
	return ids
}
