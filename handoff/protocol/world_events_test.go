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
				switch m.m.Type() {
				case wire.TTake:
					w.offers--
				case wire.TAbort:
					if x == &w.s { // what was offered is not any more
						w.offers = 0
					}
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
	for _, id := range w.where(func(s *sess) bool { return s.finishing && w.canEnd(s) != nil && !w.canEnd(s).stopped }) {
		add("finish", func() { w.endSession(w.sessions[id]) })
	}
	return list
}
