package protocol

import (
	"baton/handoff/wire"
	"baton/internal/session"
)

// What may happen.

// die ends a process. What it had said can still be read.
func (w *world) die(x *side) {
	x.alive, x.accepting = false, false
	x.mail, x.posted = nil, nil
	clear(x.timers)
	if x == &w.s {
		w.fenced = false
	}
	for s := range w.all {
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
		w.post(x, Opened{[]ID{s.id}})
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
		w.foul(1, "session %d is served at %d, its client is at %d", s.id.N(), *at, s.pos)
	}
}

// push is output that another goroutine writes to a frozen session.
func (w *world) push(s *sess) {
	s.pos++
	s.late++
}

// An event is something that may happen next, in this world or in a copy of it.
type event struct {
	name string
	do   func(w *world)
}

// on makes an event that happens to a side.
func (x *side) on(what string, do func(w *world, x *side)) event {
	name := x.name
	return event{what, func(w *world) { do(w, w.side(name)) }}
}

// events lists what happens sooner or later, if nothing goes wrong and no time passes.
func (w *world) events() (list []event) {
	for _, x := range w.sides() {
		if x.alive && !x.stopped {
			list = append(list, w.eventsOf(x)...)
		}
	}
	if w.p.alive && !w.p.stopped && w.p.end != nil && w.p.end.Result == ResultDone {
		list = append(list, w.p.on("P exits", func(w *world, x *side) { w.log("P exits"); w.die(x) }))
	}
	if len(w.journal) > 0 && w.p.alive && !w.p.stopped && w.p.end == nil {
		list = append(list, event{"journal", (*world).journalAnswers})
	}
	if w.fenced && w.s.alive {
		list = append(list, event{"fence", func(w *world) { w.log("S is killed"); w.killed = true; w.die(&w.s) }})
	}
	for _, id := range w.where(func(s *sess) bool { return s.finishing && w.canEnd(s) != nil && !w.canEnd(s).stopped }) {
		list = append(list, event{"finish", func(w *world) { w.endSession(w.sessions[id]) }})
	}
	return list
}

func (w *world) eventsOf(x *side) (list []event) {
	add := func(what string, do func(w *world, x *side)) { list = append(list, x.on(what, do)) }
	other := w.other(x)
	switch {
	case x == &w.p && x.end != nil:
		return nil
	case !x.begun:
		if x == &w.p || w.p.begun {
			add(x.name+" begins", func(w *world, x *side) { x.begun = true; w.put(x, Begin{x == &w.p && w.pm.check}) })
		}
		return list
	}
	if x == &w.s && (x.end != nil || x.parted) && !x.hungUp {
		add("S hangs up", func(w *world, x *side) { w.log("S hangs up"); x.hungUp = true })
	}
	if x == &w.s && x.end != nil {
		add("S exits", (*world).exit)
		return list
	}
	if len(x.mail) > 0 {
		add("message to "+x.name, (*world).deliver)
	} else if (w.cutOff || !other.alive || other.hungUp) && !x.toldBroken && (x == &w.s || w.pm.hailed) {
		add("broken to "+x.name, func(w *world, x *side) { x.toldBroken = true; w.put(x, Broken{"EOF"}) })
	}
	if !other.alive && !x.toldDeath {
		add("death to "+x.name, func(w *world, x *side) { x.toldDeath = true; w.put(x, PeerDied{w.other(x).name + " has ended"}) })
	}
	if len(x.posted) > 0 {
		add("news to "+x.name, func(w *world, x *side) {
			in := x.posted[0]
			x.posted = x.posted[1:]
			w.put(x, in)
		})
	}
	return list
}

func (w *world) deliver(x *side) {
	m := x.mail[0]
	x.mail = x.mail[1:]
	switch m.m.Type() {
	case wire.TTake:
		w.offers--
	case wire.TAbort:
		if x == &w.s { // what was offered is not any more
			w.offers = 0
		}
	}
	given := w.let
	w.put(x, Received{m.m})
	if m, ok := m.m.(*wire.Take); ok && len(m.Refused) > 0 && x == &w.p && !given && w.pm.step == moving && x.alive && w.s.alive && !w.liar {
		w.foul(5, "a session was refused before any was given, and P goes on")
	}
}

func (w *world) journalAnswers() {
	in := w.journal[0]
	w.journal = w.journal[1:]
	if w.noJournal {
		w.put(&w.p, NotJournaled{in.Batch, "the disk is full"})
		return
	}
	w.intended[in.Batch] = true
	w.put(&w.p, Journaled{in.Batch})
}

// exit is an end that a successor has chosen: it may take no session with it.
func (w *world) exit(x *side) {
	w.log("S exits")
	before := w.where(func(s *sess) bool { return s.lost == "" })
	w.die(x)
	for _, id := range before {
		if w.p.alive && w.sessions[id].lost != "" {
			w.foul(5, "S exits, and session %d is lost without a death", id.N())
		}
	}
}

// fire has a timer run out.
func (w *world) fire(x *side, t Timer) {
	delete(x.timers, t)
	switch t {
	case HelloTimer, AnswerTimer, BeatTimer, ReturnTimer, ExitTimer:
		w.impatient = w.impatient || x == &w.p
	}
	w.put(x, Expired{t})
}
