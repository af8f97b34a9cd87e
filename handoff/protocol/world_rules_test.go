package protocol

import (
	"errors"
	"strings"

	"baton/fsm"
	"baton/handoff/wire"
)

// Rules.

// watch checks what holds at every moment.
func (w *world) watch() {
	if w.liar { // it may say that it has given back, or stopped accepting, what it has not
		return
	}
	for s := range w.all {
		switch n := s.id.N(); {
		case !w.p.alive || !w.s.alive:
		case s.p == ours && s.s == owned:
			w.foul(1, "session %d has two owners", n)
		case s.s == owned && (s.p == frozen || s.p == pTaken):
			w.foul(1, "S serves session %d, which P %s", n, s.p)
		case s.p == ours && s.s == sFrozen:
			w.foul(1, "P serves session %d, which S %s", n, heldAs[s.s])
		}
	}
	if w.p.accepting && w.s.accepting {
		w.foul(1, "both accept")
	}
}

// watchWords checks what has to be so before something is said.
func (w *world) watchWords(x *side, m wire.Message) {
	if w.liar {
		return
	}
	switch m.(type) {
	case *wire.Abort:
		w.aborted = w.aborted || x == &w.p
	case *wire.Bye:
		w.saidBye = w.saidBye || x == &w.p
	case *wire.Welcome, *wire.Lend, *wire.Offer, *wire.Give:
		if x == &w.p && !w.weighed {
			w.foul(6, "P says %v to one that was not weighed", m.Type())
		}
		if x == &w.p && !w.pm.check && x.state != fsm.Transferring && x.state != fsm.Draining {
			w.foul(2, "P says %v in %s", m.Type(), x.state)
		}
	case *wire.Done:
		switch {
		case x == &w.s:
		case w.aborted:
			w.saidBack = true
		default:
			if w.saidDone = true; x.state != fsm.Draining {
				w.foul(2, "P says DONE in %s", x.state)
			}
		}
	}
}

// watchQuiet checks what holds when everything that was said has been heard.
func (w *world) watchQuiet() {
	if w.p.alive && w.s.alive && !w.p.stopped && w.pm.step == returning && w.sm.stage == givingBack && !w.p.accepting {
		w.foul(5, "nobody accepts, and S gives back what it has")
	}
	hears := w.p.alive && !w.p.stopped && w.p.end == nil && w.s.begun && !w.s.stopped && w.s.end == nil && w.heard(&w.s)
	if hears && w.pm.missed > 0 {
		w.foul(5, "S leaves a beat unanswered")
	}
	if hears && w.pm.step == returning && w.sm.stage != givingBack {
		w.foul(5, "P has said ABORT, and S is %s", w.sm.stage)
	}
	waits := w.pm.step == finishing || (w.pm.step == moving || w.pm.step == draining) && len(w.pm.giver.offers) > 0
	if w.p.alive && !w.p.stopped && waits && !w.p.timers[AnswerTimer] {
		w.foul(5, "P waits for an answer, and for how long nobody knows")
	}
	if !w.p.alive || !w.heard(&w.s) || w.p.stopped || w.s.stopped || w.pm.step != draining || w.sm.stage != serving {
		return
	}
	if !w.p.timers[BeatTimer] {
		w.foul(5, "P asks for no more beats")
	}
	if w.sm.parting && w.pm.giver.left() == nil {
		w.foul(0, "S has said BYE, and P has nothing left, and stays")
	}
	for s := range w.all {
		if s.ended && (s.copied || s.s != nothing) {
			w.foul(0, "session %d has ended, and its socket is still held", s.id.N())
		}
	}
}

// atEnd checks what holds when a side says that it is over.
func (w *world) atEnd(x *side) {
	if x == &w.s {
		back := x.end.Result == ResultReturned
		if x.state != fsm.Adopting && !(back && x.state == fsm.Exited) {
			w.foul(5, "S is %s, and leaves", x.state)
		}
		if x.toldDeath && !x.asked && !w.liar && x.end.Result == ResultGaveUp && w.where(func(s *sess) bool { return s.s == owned }) != nil {
			w.foul(4, "S leaves what it owns, though P is dead")
		}
		held := w.where(func(s *sess) bool { return s.s == owned || s.s == sFrozen })
		if held != nil && w.p.alive && !w.liar {
			w.foul(5, "S leaves, and has not given back%s", list(held))
		}
		if !back || w.liar {
			return
		}
		for s := range w.all {
			if !s.ended && s.p != ours {
				w.foul(5, "S leaves, and P has not got back session %d", s.id.N())
			}
		}
		return
	}
	done := x.end.Result == ResultDone
	switch {
	case done && x.state != fsm.Exited, !done && x.state != fsm.Serving:
		w.foul(5, "P ends as %s in %s", x.end.Result, x.state)
	case !done && !x.accepting:
		w.foul(5, "P serves and does not accept")
	case !done && w.s.alive:
		w.foul(3, "P ends as %s while the successor lives", x.end.Result)
	case x.end.Result == ResultRecalled && !w.let && !w.saidDone && !w.liar:
		w.foul(5, "P ends as %s, and has given nothing", x.end.Result)
	}
	for s := range w.all {
		abandoned := w.pm.abandoned && (s.p == ours || s.p == closed) // closed: that was not heard any more
		if s.copied && !(done && abandoned) {
			rule := 0
			if s.p == moved && !s.ended {
				rule = 4 // nothing was made of it
			}
			w.foul(rule, "P still has a copy of %d", s.id.N())
		}
		rolledBack := x.end.Result == ResultRolledBack || x.end.Result == ResultChecked
		if rolledBack && !s.ended && !w.liar && (s.p != ours || s.lost != "") {
			w.foul(5, "rolled back, and P has lost session %d", s.id.N())
		}
		if !done && !s.ended && s.p == frozen {
			w.foul(5, "P serves, and session %d is still frozen", s.id.N())
		}
		if done && !s.ended && (s.p == frozen || s.p == ours && !(w.pm.abandoned && s.finishing)) {
			w.foul(5, "P exits, and has forgotten session %d", s.id.N())
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
	for s := range w.all {
		switch {
		case s.ended:
		case w.p.alive && s.p == ours, w.s.alive && s.s == owned:
			if s.lost != "" {
				w.foul(4, "session %d is served, and called lost (%s)", s.id.N(), s.lost)
			}
		case s.lost != "":
			if s.sent && w.s.alive {
				w.foul(4, "session %d was given, and S has lost it (%s)", s.id.N(), s.lost)
			}
		default:
			w.foul(4, "session %d has vanished: %+v", s.id.N(), *s)
		}
	}
	if w.s.alive && w.s.parted && (!w.s.accepting || w.s.state != fsm.Serving) {
		w.foul(5, "S is alone, in %s, accepting %v", w.s.state, w.s.accepting)
	}
}

// nothingWentWrong checks the outcome of a handoff without a fault: this one, or if it is "", any that loses nothing.
func (w *world) nothingWentWrong(want Result) {
	r := w.p.end.Result
	switch {
	case want == "":
	case r != want:
		w.foul(5, "without a fault it ended as %s: %s", r, w.p.end.Reason)
	case w.killed:
		w.foul(5, "without a fault S was fenced")
	}
	for s := range w.all {
		there := r == ResultDone && s.s == owned || r != ResultDone && s.p == ours
		if !s.ended && !there || s.finishing && want != "" {
			w.foul(5, "without a fault session %d is where it does not belong: P %s, S %s it", s.id.N(), s.p, heldAs[s.s])
		}
	}
}

func (w *world) err() error {
	if len(w.wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(w.wrong, "\n"))
}
