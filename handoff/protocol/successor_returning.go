package protocol

import (
	"fmt"
	"slices"

	"baton/handoff/wire"
)

// The way back: a successor that lives gives back what it was given, and what it accepted itself. Both sides say ABORT, whoever says it
// first. Before we do, we have stopped accepting; when the predecessor has, all that it gave has been heard. At the end both say DONE: until
// then, should the predecessor die, what it was given back is ours again.

// refuse ends the handoff from our side.
func (s *Successor) refuse(reason string) { s.turnBack(reason, wire.Refused) }

func (s *Successor) abortedThere(m *wire.Abort) {
	s.heard = true
	reason := "the predecessor ended the handoff: " + m.Reason
	switch {
	case s.stage == turning:
		s.giveBack()
	case s.stage == givingBack: // it has said so before
	case s.died: // and we are all there is
		s.do(Report{reason})
	case !s.hasAnything():
		s.leave(ResultGaveUp, reason)
	default:
		s.turnBack(reason, wire.Failed)
	}
}

// hasAnything reports whether something is, or may have been, ours that was the predecessor's.
func (s *Successor) hasAnything() bool { return s.promised || s.receiver.moved > 0 }

// turnBack is what ends a handoff for us.
func (s *Successor) turnBack(reason string, code wire.Code) {
	switch {
	case s.stage == turning || s.stage == givingBack:
		s.do(Report{reason})
		return
	case s.stage == hailing || s.stage == adopting:
		s.say(&wire.Abort{Code: code, Reason: reason})
		s.leave(ResultGaveUp, reason)
		return
	case s.died: // there is nobody to give anything back to
		s.do(Report{reason})
		return
	}
	s.stage, s.reason = turning, reason
	agree := func() {
		s.say(&wire.Abort{Code: code, Reason: reason})
		if s.heard {
			s.giveBack()
		} else {
			s.do(SetTimer{AnswerTimer})
		}
	}
	if !s.served {
		agree()
		return
	}
	s.ask(StopAccepting{}, func() {
		s.accepts = false
		s.ask(Move{To: Draining, Why: reason}, agree)
	})
}

// late hears what the predecessor had said before it knew. What it gave is ours, until we give it back.
func (s *Successor) late(m wire.Message) {
	switch m := m.(type) {
	case *wire.Give:
		s.receiver.received(m)
	case *wire.Beat:
		s.do(GoRound{m.N})
	case *wire.Done:
		s.promised = true
	case *wire.Bye:
		if s.parting { // it has dropped its copies, and exits
			s.goOnAlone("the predecessor said BYE")
		}
	}
}

// giveBack begins when both sides know that the handoff has ended. The predecessor has copies of all sockets but those that we accepted.
func (s *Successor) giveBack() {
	if !s.hasAnything() {
		s.leave(ResultGaveUp, s.reason)
		return
	}
	s.stage = givingBack
	ours := s.receiver.at(owned)
	s.receiver.put(nothing, ours)
	s.giver.batch, s.giver.seq = s.receiver.batch, s.receiver.seq // the numbers go on
	s.giver.lent(ours)
	s.giver.enqueue(sortedKeys(s.accepted))
	s.do(SetTimer{ReturnTimer})
	s.pump()
}

// pump does what can be done next. While a question is open, nothing can. Sessions that were found to have ended are ours until Ended names
// them: the predecessor has to hear of it before it hears DONE.
func (s *Successor) pump() {
	if s.then != nil || s.stage != givingBack || s.giver.pump() || s.gaveBack || s.giver.left() != nil {
		return
	}
	s.gaveBack = true
	s.say(&wire.Done{Moved: s.giver.moved})
}

// exit: the predecessor has it all.
func (s *Successor) exit() {
	if !s.served {
		s.leave(ResultReturned, s.reason)
		return
	}
	s.ask(Move{To: Exited, Why: s.reason}, func() { s.leave(ResultReturned, s.reason) })
}

// goBackOn hears what the predecessor says on the way back.
func (s *Successor) goBackOn(m wire.Message) {
	switch m := m.(type) {
	case *wire.Take:
		if wrong := s.giver.misfit(m); wrong != "" {
			s.do(Report{wrong})
			return
		}
		s.giver.taken(m, s.hurried)
		if len(m.IDs) == 0 {
			s.pump()
		}
	case *wire.Beat:
		s.do(GoRound{m.N})
	case *wire.Done:
		if s.gaveBack {
			s.exit()
			return
		}
		s.do(Report{"the predecessor said DONE before we did"})
	default:
		s.do(Report{fmt.Sprintf("the predecessor said %v, which does not fit on the way back", m.Type())})
	}
}

func (s *Successor) frozen(in Frozen) {
	s.giver.frozen(in)
	if s.hurried {
		s.giver.finish(slices.Concat(in.Busy, sortedKeys(in.Failed)))
	}
	s.pump()
}

// hurry: the time is almost over. Sessions that come to rest before they end still go back.
func (s *Successor) hurry() {
	s.hurried = true
	s.giver.finish(s.giver.busy)
	s.pump()
}

// goOnAlone: the predecessor cannot take anything back any more. Whatever was the reason to give it back, we are all there is.
func (s *Successor) goOnAlone(why string) {
	s.solo = true
	s.giver.keep()
	kept := slices.Concat(s.receiver.at(owned), s.giver.sessions.at(atHome))
	s.do(Report{fmt.Sprintf("%d sessions stay here: %s", len(kept), why)})
	s.promote(Move{To: Serving, Why: why, Rescue: !s.served})
}
