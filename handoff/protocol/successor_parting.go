package protocol

import "baton/handoff/wire"

// How sessions, the predecessor and the successor come to their ends.

// ended: sessions of ours have ended. The predecessor's copies would keep their sockets open.
func (s *Successor) ended(ids []ID) {
	for _, id := range ids {
		delete(s.accepted, id)
	}
	told := s.receiver.among(ids, owned)
	s.receiver.put(nothing, told)
	told = append(told, s.giver.ended(ids)...)
	if len(told) > 0 {
		s.say(&wire.Closed{IDs: told})
	}
	s.pump()
}

// part ends probation early, or the handoff if we do not serve yet.
func (s *Successor) part() {
	switch {
	case s.stage == turning || s.stage == givingBack: // we are about to end
	case s.stage != serving:
		s.refuse("the successor was asked to stop")
	case !s.parting:
		s.parting = true
		s.say(&wire.Bye{})
	}
}

// bye: the predecessor drops its copies.
func (s *Successor) bye() {
	if !s.parting {
		s.say(&wire.Bye{})
	}
	s.solo = true
	s.beAlone()
}

// beAlone: from here the predecessor has no part in what we do. What it had not given, or had been given back, is not ours, unless it has
// died, and it can be proved how far it was.
func (s *Successor) beAlone() {
	ungiven, back := s.receiver.at(borrowed, taken), s.giver.sessions.at(given)
	switch {
	case !s.died:
		s.receiver.drop(ungiven)
	default:
		if len(ungiven) > 0 {
			s.do(Rescue{ungiven})
		}
		if lent := append(s.giver.sessions.at(atHome), s.giver.dead...); len(lent) > 0 {
			s.do(Unlend{lent})
		}
		if len(back) > 0 {
			s.do(Recall{back})
		}
	}
	s.stage = apart
	s.do(Parted{})
}

func (s *Successor) leave(result Result, reason string) {
	s.stage, s.then = leaving, nil
	s.do(End{result, reason})
}

// broken: the predecessor is dying, or has lost patience and ends us. Silence is not death: we wait for one or the other, unless there is
// nothing that would be worth it.
func (s *Successor) broken(reason string) {
	if s.stage == hailing || s.stage == adopting {
		s.leave(ResultGaveUp, reason)
		return
	}
	s.alone()
}

// alone: once the predecessor has certainly ended, and all that it said was heard, we keep what it gave.
func (s *Successor) alone() {
	switch {
	case !s.died || !s.cut:
	case s.stage == serving:
		s.beAlone()
	case s.stage == receiving, s.stage == turning, s.stage == givingBack:
		s.goOnAlone(s.how)
	default:
		s.leave(ResultGaveUp, s.how)
	}
}
