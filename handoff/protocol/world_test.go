package protocol

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"baton/fsm"
	"baton/handoff/wire"
	"baton/internal/session"

	"github.com/fxamacker/cbor/v2"
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

	journal  []Intend // not answered yet
	intended map[int]bool
	offers   int  // that P has made and not heard of
	cutOff   bool // nothing goes through the channel any more
	fenced   bool // the successor is being killed
	handed   bool
	reported []string

	liar bool // the other side says what it likes: one can only keep one's own house in order

	// What goes differently, for once.
	unfit, noAdopt, noBorrow, noJournal bool
	refuseMoves                         map[State]bool
	refuse, unsavable                   map[ID]bool
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

	s    holding
	sPos int
}

// pView is what a session is for the predecessor.
type pView uint8

const (
	absent pView = iota
	ours
	frozen
	moved
	closed
)

func newWorld(opt Options, sessions int) *world {
	w := &world{
		pm: NewPredecessor(opt), sm: NewSuccessor(), sessions: map[ID]*sess{}, log: func(string) {},
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
			w.sessions[id].sent = w.heard(to)
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

func (w *world) performP(out Output) []Input {
	if answers, done := w.performBoth(&w.p, out); done {
		return answers
	}
	switch out := out.(type) {
	case Greet:
		if w.unfit {
			return []Input{Unfit{"it lacks protocol ping"}}
		}
		return []Input{Greeted{&wire.Welcome{Version: 1}, w.where(func(s *sess) bool { return s.p == ours })}}
	case Intend:
		w.journal = append(w.journal, out)
	case Lend:
		return w.lend(out)
	case Freeze:
		return []Input{w.freeze(out.IDs)}
	case Thaw:
		for _, s := range w.find(out.IDs, frozen) {
			s.p, s.pPos, s.late = ours, s.pPos+s.late, 0
		}
	case LetGo:
		var gave Gave
		for _, s := range w.find(out.IDs, frozen) {
			if s.p = moved; s.late > 0 {
				data, _ := cbor.Marshal([]uint64{uint64(s.id), uint64(s.late)})
				gave.Lates = append(gave.Lates, data)
			}
		}
		return []Input{gave}
	case Detach:
		w.find(out.IDs, moved)
	case Release:
		if len(out.IDs) == 0 {
			w.foul("nothing is released")
		}
		for _, s := range w.find(out.IDs, moved, closed) {
			w.dropCopy(s)
			if !w.liar && w.heard(&w.s) && slices.ContainsFunc(w.s.mail, func(m mail) bool { return slices.Contains(m.lent, s.id) }) {
				w.foul("the socket of %d is closed while it is on its way", s.id.N())
			}
		}
	case Unlend:
		w.onlyWithoutS("unlend")
		for _, s := range w.find(out.IDs, ours, closed) {
			w.dropCopy(s)
		}
	case StopAccepting:
		w.p.accepting = false
		var answers []Input
		w.p.posted = slices.DeleteFunc(w.p.posted, func(in Input) bool {
			answers = append(answers, in)
			return true
		})
		return append(answers, NotAccepting{})
	case Handed:
		w.handed = true
	case Finish:
		for _, s := range w.find(out.IDs, ours, closed) {
			s.finishing = true
		}
	case Fence:
		w.fenced = true
	case Recall:
		w.onlyWithoutS("recall")
		for _, s := range w.find(out.IDs, moved) {
			w.dropCopy(s)
			if s.told {
				w.foul("session %d is called lost, and S had said that it has ended", s.id.N())
			}
			s.p, s.lost = closed, "recalled"
		}
	default:
		w.foul("P cannot do %T", out)
	}
	return nil
}

// find returns the sessions that are something of these for the predecessor, and calls it foul if one is not.
func (w *world) find(ids []ID, views ...pView) (found []*sess) {
	for _, id := range ids {
		s := w.sessions[id]
		if s == nil || !slices.Contains(views, s.p) {
			w.foul("P does something to session %d, which is not one of %v", id.N(), views)
			continue
		}
		found = append(found, s)
	}
	return found
}

func (w *world) onlyWithoutS(what string) {
	if w.s.alive {
		w.foul("%s while the successor lives", what)
	}
}

func (w *world) dropCopy(s *sess) {
	if !s.copied {
		w.foul("P has no copy of %d", s.id.N())
	}
	s.copied = false
}

func (w *world) lend(l Lend) []Input {
	if !w.intended[l.Batch] {
		w.foul("batch %d is lent, and the journal does not know", l.Batch)
	}
	if w.pm.step != moving && w.pm.step != draining {
		w.foul("batch %d is lent while P is %s", l.Batch, w.pm.step)
	}
	m := &wire.Lend{Batch: l.Batch}
	for _, id := range l.IDs {
		if s := w.sessions[id]; s.p == ours {
			s.copied = true
			m.IDs, m.Cookies = append(m.IDs, id), append(m.Cookies, uint64(id))
		}
	}
	if len(m.IDs) > 0 {
		w.log("    (LEND" + describeMessage(m) + ")")
		w.send(&w.p, mail{m, m.IDs})
	}
	return []Input{Lent{l.Batch, m.IDs}}
}

func (w *world) freeze(ids []ID) (f Frozen) {
	for _, id := range ids {
		switch s := w.sessions[id]; {
		case s.p == closed:
		case s.p != ours:
			w.foul("P freezes session %d, which is not its own", id.N())
		case s.busy || s.stuck:
			f.Busy = append(f.Busy, id)
		case w.unsavable[id]:
			if f.Failed == nil {
				f.Failed = map[ID]string{}
			}
			f.Failed[id] = "its handler cannot be saved"
		default:
			s.p, s.late = frozen, 0
			data, _ := cbor.Marshal(s.pPos)
			f.IDs, f.States = append(f.IDs, id), append(f.States, data)
		}
	}
	return f
}

func (w *world) performS(out Output) []Input {
	if answers, done := w.performBoth(&w.s, out); done {
		return answers
	}
	switch out := out.(type) {
	case Greeting:
		w.send(&w.s, mail{m: &wire.Hello{Versions: []uint8{1}}})
	case Adopt:
		if w.noAdopt {
			return []Input{NotAdopted{"port 7001 is in use"}}
		}
		return []Input{Adopted{}}
	case Borrow:
		if w.noBorrow {
			return []Input{NotBorrowed{"too many open files"}}
		}
		for _, id := range out.Lend.IDs {
			w.hold(id, nothing, borrowed)
		}
		return []Input{Borrowed{}}
	case Take:
		var took Took
		for i, id := range out.Offer.IDs {
			if w.refuse[id] {
				took.Refused = append(took.Refused, wire.Refusal{ID: id, Reason: "state cannot be read"})
				continue
			}
			w.hold(id, borrowed, taken)
			cbor.Unmarshal(out.Offer.States[i], &w.sessions[id].sPos)
			took.IDs = append(took.IDs, id)
		}
		return []Input{took}
	case Own:
		for _, data := range out.Give.Lates {
			var late []uint64
			cbor.Unmarshal(data, &late)
			w.sessions[ID(late[0])].sPos += int(late[1])
		}
		for _, id := range out.Give.IDs {
			w.hold(id, taken, owned)
			if s := w.sessions[id]; s.sPos != s.pos && !w.liar {
				w.foul("S owns %d at %d, its client is at %d", id.N(), s.sPos, s.pos)
			}
		}
	case Drop:
		for _, id := range out.IDs {
			s := w.sessions[id]
			if s.s != borrowed && s.s != taken {
				w.foul("S drops %d, which is not on loan", id.N())
			}
			s.s = nothing
			if !w.p.alive && !s.ended {
				s.lost = "dropped after the predecessor's end"
			}
		}
	case Promote:
		return []Input{Promoted{}}
	case GoRound:
		w.s.posted = append(w.s.posted, WentRound{out.N})
	case Parted:
		w.s.parted = true
		if held := w.where(func(s *sess) bool { return s.s == borrowed || s.s == taken }); len(held) > 0 {
			w.foul("S still holds%s", list(held))
		}
	default:
		w.foul("S cannot do %T", out)
	}
	return nil
}

func (w *world) hold(id ID, from, to holding) {
	s := w.sessions[id]
	if s.s != from {
		w.foul("S makes session %d %d, from %d", id.N(), to, s.s)
	}
	s.s = to
}

// where returns the sessions for which f holds, in order.
func (w *world) where(f func(*sess) bool) (ids []ID) {
	for _, id := range sortedKeys(w.sessions) {
		if f(w.sessions[id]) {
			ids = append(ids, id)
		}
	}
	return ids
}

// What may happen.

// die ends a process. What it had said can still be read.
func (w *world) die(x *side) {
	x.alive, x.accepting = false, false
	x.mail, x.posted = nil, nil
	clear(x.timers)
	if x == &w.s {
		w.fenced = false
	}
	for _, s := range w.sessions {
		if x == &w.s && s.s != owned {
			s.s = nothing
		}
		switch {
		case s.ended || s.lost != "":
		case x == &w.p && (s.p == ours || s.p == frozen || s.p == moved && !s.sent):
			s.lost = "with P"
		case x == &w.s && s.p == absent: // S had accepted it
			s.lost = "with S"
		case !w.p.alive && !w.s.alive:
			s.lost = "with both"
		}
	}
}

func (w *world) open(x *side) {
	w.nextID++
	s := &sess{id: session.MakeID(7, w.nextID)}
	w.sessions[s.id] = s
	if x == &w.p {
		s.p = ours
		if x.begun {
			w.post(x, Opened{[]ID{s.id}})
		}
	} else {
		s.s = owned
	}
}

func (w *world) post(x *side, in Input) { x.posted = append(x.posted, in) }

// canEnd says at which side a session may end by itself.
func (w *world) canEnd(s *sess) *side {
	switch {
	case s.ended || s.stuck || s.lost != "":
	case w.p.alive && s.p == ours:
		return &w.p
	case w.s.alive && s.s == owned:
		return &w.s
	}
	return nil
}

func (w *world) endSession(s *sess) {
	x := w.canEnd(s)
	s.ended = true
	if x == &w.p {
		s.p = closed
	} else {
		s.s = nothing
	}
	w.post(x, Ended{[]ID{s.id}})
}

// serve has whoever owns a session do something for its client.
func (w *world) serve(s *sess) {
	s.pos++
	at := &s.pPos
	if s.s == owned {
		at = &s.sPos
	}
	if *at++; *at != s.pos {
		w.foul("session %d is served at %d, its client is at %d", s.id.N(), *at, s.pos)
	}
}

// push is output that another goroutine writes to a frozen session.
func (w *world) push(s *sess) {
	s.pos++
	s.late++
}

// An event is something that may happen next.
type event struct {
	name string
	do   func()
}

// events lists what happens sooner or later, if nothing goes wrong and no time passes.
func (w *world) events() (list []event) {
	add := func(name string, do func()) { list = append(list, event{name, do}) }
	for _, x := range []*side{&w.p, &w.s} {
		if !x.alive || x.stopped || x.end != nil && x == &w.p {
			continue
		}
		if !x.begun {
			if x == &w.p || w.p.begun {
				add(x.name+" begins", func() { x.begun = true; w.put(x, Begin{x == &w.p && w.pm.check}) })
			}
			continue
		}
		if x == &w.s && (x.end != nil || x.parted) && !x.hungUp {
			add("S hangs up", func() { w.log("S hangs up"); x.hungUp = true })
		}
		if x == &w.s && x.end != nil {
			add("S exits", func() { w.log("S exits"); w.die(x) })
			continue
		}
		other := w.other(x)
		if len(x.mail) > 0 {
			add("message to "+x.name, func() {
				m := x.mail[0]
				x.mail = x.mail[1:]
				if m.m.Type() == wire.TTake {
					w.offers--
				}
				w.put(x, Received{m.m})
			})
		} else if (w.cutOff || !other.alive || other.hungUp) && !x.toldBroken && (x == &w.s || w.pm.hailed) {
			add("broken to "+x.name, func() { x.toldBroken = true; w.put(x, Broken{"EOF"}) })
		}
		if !other.alive && !x.toldDeath {
			add("death to "+x.name, func() { x.toldDeath = true; w.put(x, PeerDied{other.name + " has ended"}) })
		}
		if len(x.posted) > 0 {
			add("news to "+x.name, func() {
				in := x.posted[0]
				x.posted = x.posted[1:]
				w.put(x, in)
			})
		}
	}
	if w.p.end != nil && w.p.end.Result == ResultDone && w.p.alive && !w.p.stopped {
		add("P exits", func() { w.log("P exits"); w.die(&w.p) })
	}
	if w.p.alive && !w.p.stopped && len(w.journal) > 0 {
		add("journal", func() {
			in := w.journal[0]
			w.journal = w.journal[1:]
			if w.noJournal {
				w.put(&w.p, NotJournaled{in.Batch, "the disk is full"})
			} else {
				w.intended[in.Batch] = true
				w.put(&w.p, Journaled{in.Batch})
			}
		})
	}
	if w.fenced && w.s.alive {
		add("fence", func() { w.log("S is killed"); w.die(&w.s) })
	}
	for _, id := range w.where(func(s *sess) bool { return s.finishing && s.p == ours && w.canEnd(s) != nil && !w.p.stopped }) {
		add("finish", func() { w.endSession(w.sessions[id]) })
	}
	return list
}

// Rules.

// watch checks what holds at every moment.
func (w *world) watch() {
	for _, s := range w.sessions {
		if w.p.alive && s.p == ours && w.s.alive && s.s == owned {
			w.foul("session %d has two owners", s.id.N())
		}
	}
	if w.p.accepting && w.s.accepting {
		w.foul("both accept")
	}
}

// watchQuiet checks what holds when everything that was said has been heard.
func (w *world) watchQuiet() {
	if !w.p.alive || !w.heard(&w.s) || w.s.stopped || w.pm.step != draining || w.sm.stage != serving {
		return
	}
	for _, s := range w.sessions {
		if s.ended && (s.copied || s.s != nothing) {
			w.foul("session %d has ended, and its socket is still held", s.id.N())
		}
	}
}

// atEnd checks what holds when a side says that it is over.
func (w *world) atEnd(x *side) {
	if x == &w.s {
		if x.state != fsm.Adopting {
			w.foul("S serves, and leaves")
		}
		if x.toldDeath && !x.asked && !w.liar && x.end.Result == ResultGaveUp && w.where(func(s *sess) bool { return s.s == owned }) != nil {
			w.foul("S leaves what it owns, though P is dead")
		}
		return
	}
	done := x.end.Result == ResultDone
	switch {
	case done && x.state != fsm.Exited, !done && x.state != fsm.Serving:
		w.foul("P ends as %s in %s", x.end.Result, x.state)
	case !done && !x.accepting:
		w.foul("P serves and does not accept")
	case !done && w.s.alive:
		w.foul("P ends as %s while the successor lives", x.end.Result)
	}
	for _, s := range w.sessions {
		if s.copied && (!done || s.p != ours) {
			w.foul("P still has a copy of %d", s.id.N())
		}
		rolledBack := x.end.Result == ResultRolledBack || x.end.Result == ResultChecked
		if rolledBack && !s.ended && s.p != ours && s.p != absent {
			w.foul("rolled back, and P has lost session %d", s.id.N())
		}
		if !done && !s.ended && s.p == frozen {
			w.foul("P serves, and session %d is still frozen", s.id.N())
		}
		if done && !s.ended && (s.p == frozen || s.p == ours && !(w.pm.abandoned && s.finishing)) {
			w.foul("P exits, and has forgotten session %d", s.id.N())
		}
	}
}

// settled reports whether both sides have come to an end.
func (w *world) settled() bool {
	pOver := !w.p.alive || w.p.end != nil && w.p.end.Result != ResultDone
	return pOver && (!w.s.alive || !w.s.begun || w.s.parted)
}

// account checks, once all is settled, that nobody has vanished.
func (w *world) account() {
	for _, s := range w.sessions {
		switch {
		case s.ended:
		case w.p.alive && s.p == ours, w.s.alive && s.s == owned:
			if s.lost != "" {
				w.foul("session %d is served, and called lost (%s)", s.id.N(), s.lost)
			}
		case s.lost != "":
			if s.sent && w.s.alive {
				w.foul("session %d was given, and S has lost it (%s)", s.id.N(), s.lost)
			}
		default:
			w.foul("session %d has vanished: %+v", s.id.N(), *s)
		}
	}
	if w.s.alive && w.s.parted && (!w.s.accepting || w.s.state != fsm.Serving) {
		w.foul("S is alone, in %s, accepting %v", w.s.state, w.s.accepting)
	}
}

func (w *world) err() error {
	if len(w.wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(w.wrong, "\n"))
}
