package protocol

import (
	"fmt"
	"slices"

	"baton/handoff/wire"
)

// The ways back. Each begins with serving again, at once, what is not the successor's, and telling it, or ending it. What is its comes back
// by the same messages that brought it there, as long as it lives and keeps to them; when it has certainly ended, the rest is ours to
// decide on.

// refuse ends the handoff with a successor that will not do.
func (p *Predecessor) refuse(reason string) {
	p.goBack(ResultRolledBack, reason, &wire.Abort{Code: wire.Refused, Reason: reason})
}

// abort ends the handoff for a reason of ours, or one that leaves the successor alive and well.
func (p *Predecessor) abort(reason string) {
	p.goBack(ResultRolledBack, reason, &wire.Abort{Code: wire.Failed, Reason: reason})
}

// distrust ends the handoff with a successor that is silent, or does not keep to the rules: nothing can be expected to come back.
func (p *Predecessor) distrust(reason string) {
	if p.step == returning {
		p.giveUpOn(reason)
		return
	}
	p.distrusted = true
	p.abort(reason)
}

// abortedThere: the successor ends the handoff, or agrees that it has ended. From its ABORT on it accepts no more.
func (p *Predecessor) abortedThere(m *wire.Abort) {
	words := "the successor failed: "
	if m.Code == wire.Refused {
		words = "the successor refused: "
	}
	if m.Code == wire.Checked && p.step == agreeing {
		p.goBack(ResultChecked, "an upgrade would work", nil)
		return
	}
	p.abort(words + m.Reason)
	if p.step == returning {
		p.heard = true
		p.accept()
	}
}

// broken: nothing more comes. The other process has most likely just died, or left after its last word; if not, it is ended when it has
// had its time.
func (p *Predecessor) broken(reason string) {
	switch {
	case p.died:
		p.settle()
	case p.step == parting: // it may have left: the answer timer tells
	case p.step == returning:
		p.step = fencing
		p.reason += "; " + reason
		p.do(SetTimer{ExitTimer})
	case p.step != aborting && p.step != fencing:
		p.goBack(ResultRolledBack, reason, nil)
		p.silent = true
	}
}

// peerDied: we act on it when all that it had said has been heard.
func (p *Predecessor) peerDied() {
	if p.cut || !p.hailed {
		p.settle()
	}
}

// goBack is the first half.
func (p *Predecessor) goBack(result Result, reason string, say *wire.Abort) {
	if p.step == aborting || p.step == fencing || p.step == returning {
		return
	}
	p.result, p.reason, p.then = result, reason, nil
	if say != nil && !p.died {
		p.say(say)
	}
	p.giver.keep()
	switch {
	case !p.theirs:
		p.step = aborting
		p.accept()
	case p.cut || p.died:
		p.step, p.result = fencing, ResultRecalled
	case p.distrusted:
		p.result = ResultRecalled
		p.fence()
		return
	default:
		p.awaitReturn()
		return
	}
	if !p.died {
		p.do(SetTimer{ExitTimer})
	}
}

// awaitReturn: what is the successor's is to come back. Of what we gave it, we have the sockets already.
func (p *Predecessor) awaitReturn() {
	p.step, p.result, p.missed = returning, ResultRecalled, 0
	p.receiver.put(borrowed, p.giver.sessions.at(given))
	p.do(SetTimer{ReturnTimer}, SetTimer{BeatTimer})
}

// comesBack: the successor says something on the way back. What it had said before it knew of that changes nothing.
func (p *Predecessor) comesBack(m wire.Message) {
	switch m := m.(type) {
	case *wire.Beat:
		p.missed = 0
		return
	case *wire.Done:
		if p.heard && p.step == returning {
			p.doneThere(m)
			return
		}
	case *wire.Lend:
		known := slices.ContainsFunc(m.IDs, func(id ID) bool { return p.giver.sessions.where[id] != unknown })
		if p.heard && !known && p.receiver.received(m) {
			return
		}
	case *wire.Offer:
		if p.heard && p.step == returning && p.receiver.received(m) {
			return
		}
	case *wire.Give: // heard from one that is being ended, too: it has let go
		if p.heard && p.receiver.received(m) {
			p.receiver.put(nothing, m.IDs)
			p.giver.sessions.put(atHome, m.IDs...)
			return
		}
	}
	if p.heard && p.step == returning {
		p.giveUpOn(fmt.Sprintf("it said %v", m.Type()))
	}
}

// notBorrowed: we have no room for sessions that were accepted there. The successor learns it from our TAKE.
func (p *Predecessor) notBorrowed(in NotBorrowed) {
	p.do(Report{"sessions cannot be taken back: " + in.Reason})
	p.receiver.notBorrowed()
}

// doneThere: the successor has given everything back, and exits when it hears that we have it.
func (p *Predecessor) doneThere(m *wire.Done) {
	if m.Moved != p.receiver.moved {
		p.do(Report{fmt.Sprintf("%d sessions came back, the successor says %d", p.receiver.moved, m.Moved)})
	}
	// Of a session that it had accepted and we could not borrow there is nothing to recall, but it is not back either.
	if left := append(p.theirsStill(), p.receiver.at(missed)...); len(left) > 0 {
		p.giveUpOn(fmt.Sprintf("it kept %d sessions", len(left)))
		return
	}
	p.step, p.result, p.returned = aborting, ResultRolledBack, true
	p.do(Send{&wire.Done{Moved: p.receiver.moved}}, SetTimer{ExitTimer})
}

// theirsStill are the sessions that the successor has not given back.
func (p *Predecessor) theirsStill() []ID {
	ids := append(p.giver.sessions.at(given), p.receiver.at(borrowed, taken)...)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// giveUpOn ends a successor that does not give back what it has.
func (p *Predecessor) giveUpOn(why string) {
	p.reason += "; " + why
	p.fence()
}

func (p *Predecessor) fence() {
	p.step = fencing
	if !p.died {
		p.do(Fence{p.reason})
	}
}

func (p *Predecessor) accept() {
	if !p.accepting {
		p.accepting = true
		p.do(Accept{})
	}
}

// settle is the second half: the successor is no more.
func (p *Predecessor) settle() {
	switch {
	case p.step == returning:
		p.reason += "; " + p.how
	case p.step != aborting && p.step != fencing: // its end is the reason
		p.goBack(ResultRolledBack, p.how, nil)
	case p.silent:
		p.reason += "; " + p.how
	}
	p.step = ending
	if lent := slices.Concat(p.giver.sessions.at(atHome), p.giver.dead); len(lent) > 0 {
		p.do(Unlend{lent})
	}
	if p.theirs && !p.returned {
		p.do(Recall{p.theirsStill()})
	}
	p.accept()
	p.ask(Move{To: Serving, Why: p.reason}, func() { p.end(p.result, p.reason) })
}
