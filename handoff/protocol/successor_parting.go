package protocol

import "baton/handoff/wire"

// How sessions, the predecessor and the successor come to their ends.

// closedThere: sessions that were lent have ended.
func (s *Successor) closedThere(ids []ID) {
	var dropped []ID
	for _, id := range ids {
		if h := s.where[id]; h == borrowed || h == taken {
			dropped = append(dropped, id)
		}
	}
	s.drop(dropped)
}

func (s *Successor) drop(ids []ID) {
	if len(ids) > 0 {
		s.put(nothing, ids)
		s.do(Drop{ids})
	}
}

// ended: sessions of ours have ended. The predecessor's copies would keep their sockets open.
func (s *Successor) ended(ids []ID) {
	var told []ID
	for _, id := range ids {
		if s.where[id] == owned {
			told = append(told, id)
		}
	}
	if len(told) > 0 {
		s.put(nothing, told)
		s.say(&wire.Closed{IDs: told})
	}
}

// part ends probation early, or the handoff if we do not serve yet.
func (s *Successor) part() {
	const reason = "the successor was asked to stop"
	switch {
	case s.stage != serving:
		s.say(&wire.Abort{Code: wire.Refused, Reason: reason})
		s.leave(ResultGaveUp, reason)
	case !s.parting && !s.aborted:
		s.parting = true
		s.say(&wire.Bye{})
	}
}

// bye: the predecessor drops its copies.
func (s *Successor) bye() {
	if !s.parting {
		s.say(&wire.Bye{})
	}
	s.beAlone()
}

// beAlone: from here the predecessor has no part in what we do. What it had not given is not ours, unless it has died, and it can be proved
// how far it was.
func (s *Successor) beAlone() {
	var ungiven []ID
	for _, id := range sortedKeys(s.where) {
		if s.where[id] != owned {
			ungiven = append(ungiven, id)
		}
	}
	switch {
	case len(ungiven) == 0:
	case s.died:
		s.do(Rescue{ungiven})
	default:
		s.drop(ungiven)
	}
	s.stage = apart
	s.do(Parted{})
}

// refuse ends the handoff from our side.
func (s *Successor) refuse(reason string) {
	if !s.aborted {
		s.say(&wire.Abort{Code: wire.Refused, Reason: reason})
		s.giveUp(reason)
	}
}

func (s *Successor) abortedThere(m *wire.Abort) {
	s.giveUp("the predecessor ended the handoff: " + m.Reason)
}

// giveUp ends this process, if the predecessor can do without it. It cannot once we serve: it is about to end us, but if it dies before it
// does, we are all there is. And it cannot when it is dead already.
func (s *Successor) giveUp(reason string) {
	switch {
	case s.stage == serving:
		s.aborted = true
		s.do(Report{reason})
	case s.died && s.stage == receiving:
		s.do(Report{reason})
	default:
		s.leave(ResultGaveUp, reason)
	}
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
	case s.stage == receiving:
		s.promote(Move{To: Serving, Why: s.how, Rescue: true})
	default:
		s.leave(ResultGaveUp, s.how)
	}
}
