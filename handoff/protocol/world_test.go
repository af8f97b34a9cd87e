package protocol

import (
	"fmt"

	"baton/fsm"
	"baton/handoff/wire"
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

	journal   []Intend // not answered yet
	intended  map[int]bool
	offers    int  // that P has made and not heard of
	cutOff    bool // nothing goes through the channel any more
	fenced    bool // the successor is being killed
	impatient bool // a timer has run out in P that waits for an answer
	handed    bool
	reported  []string

	liar bool // the other side says what it likes: one can only keep one's own house in order

	// What goes differently, for once.
	unfit, noAdopt, noBorrow, noRoom, noJournal bool
	refuseMoves                                 map[State]bool
	refuse, unsavable                           map[ID]bool
}

// A side is one of the two processes.
type side struct {
	name    string
	step    func(Input) []Output
	perform func(Output) []Input

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

// What a session is for the successor, on the way back.
const (
	sFrozen holding = 100 + iota
	sGone           // given back
)

func newWorld(opt Options, sessions int) *world {
	w := &world{
		pm: NewPredecessor(opt), sm: NewSuccessor(opt), sessions: map[ID]*sess{}, log: func(string) {},
		intended: map[int]bool{}, refuseMoves: map[State]bool{}, refuse: map[ID]bool{}, unsavable: map[ID]bool{},
	}
	w.p = side{name: "P", step: w.pm.Step, perform: w.performP, alive: true, state: fsm.Preparing, accepting: true, timers: map[Timer]bool{}, actsLeft: -1}
	w.s = side{name: "S", step: w.sm.Step, perform: w.performS, alive: true, state: fsm.Adopting, timers: map[Timer]bool{}, actsLeft: -1}
	for range sessions {
		w.open(&w.p)
	}
	return w
}

func (w *world) foul(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	w.log("WRONG: " + w.wrong[len(w.wrong)-1])
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
	outs := x.step(in)
	for i, out := range outs {
		if isQuestion(out) && i < len(outs)-1 {
			w.foul("%s asks %s and goes on with %s", x.name, describe(out), describe(outs[i+1]))
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
		for _, answer := range x.perform(out) {
			w.put(x, answer)
		}
	}
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
			w.foul("%s: %v", x.name, err)
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
			w.foul("%d offers are unanswered", w.offers)
		}
	}
	if w.heard(to) {
		to.mail = append(to.mail, m)
	}
}

// heard reports whether what is said now arrives at x.
func (w *world) heard(x *side) bool { return x.alive && !x.hungUp && !w.cutOff }

// where returns the sessions for which f holds, in order.
func (w *world) where(f func(*sess) bool) (ids []ID) {
	for _, id := range sortedKeys(w.sessions) {
		if f(w.sessions[id]) {
			ids = append(ids, id)
		}
	}
	return ids
}
