package protocol

import (
	"errors"
	"strings"

	"baton/fsm"
)

// Rules.

// watch checks what holds at every moment.
func (w *world) watch() {
	if w.liar { // it may say that it has given back, or stopped accepting, what it has not
		return
	}
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
		back := x.end.Result == ResultReturned
		if x.state != fsm.Adopting && !(back && x.state == fsm.Exited) {
			w.foul("S is %s, and leaves", x.state)
		}
		if x.toldDeath && !x.asked && !w.liar && x.end.Result == ResultGaveUp && w.where(func(s *sess) bool { return s.s == owned }) != nil {
			w.foul("S leaves what it owns, though P is dead")
		}
		if !back || w.liar {
			return
		}
		for _, s := range w.sessions {
			if !s.ended && s.p != ours {
				w.foul("S leaves, and P has not got back session %d", s.id.N())
			}
		}
		if ours := w.where(func(s *sess) bool { return s.s == owned || s.s == sFrozen }); ours != nil {
			w.foul("S leaves, and has not given back%s", list(ours))
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
		abandoned := w.pm.abandoned && (s.p == ours || s.p == closed) // closed: that was not heard any more
		if s.copied && !(done && abandoned) {
			w.foul("P still has a copy of %d", s.id.N())
		}
		rolledBack := x.end.Result == ResultRolledBack || x.end.Result == ResultChecked
		if rolledBack && !s.ended && !w.liar && (s.p != ours || s.lost != "") {
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
