package protocol

import (
	"slices"

	"baton/handoff/wire"
)

// The ways back. Each has two halves: at once, we serve again what is not the successor's, and it is told, or ended; then, when it has
// certainly ended, what was its is ours to decide on.

// refuse ends the handoff with a successor that will not do.
func (p *Predecessor) refuse(reason string) {
	p.goBack(ResultRolledBack, reason, &wire.Abort{Code: wire.Refused, Reason: reason})
}

// abort ends the handoff for a reason of ours.
func (p *Predecessor) abort(reason string) {
	p.goBack(ResultRolledBack, reason, &wire.Abort{Code: wire.Failed, Reason: reason})
}

// abortedThere: the successor ends the handoff; it exits of its own accord.
func (p *Predecessor) abortedThere(m *wire.Abort) {
	switch {
	case m.Code == wire.Checked && p.step == agreeing:
		p.goBack(ResultChecked, "an upgrade would work", nil)
	case m.Code == wire.Refused:
		p.goBack(ResultRolledBack, "the successor refused: "+m.Reason, nil)
	default:
		p.goBack(ResultRolledBack, "the successor failed: "+m.Reason, nil)
	}
}

// broken: nothing more comes. The other process has most likely just died, or left after its last word; if not, it is ended when it has
// had its time.
func (p *Predecessor) broken(reason string) {
	switch {
	case p.died:
		p.settle()
	case p.step == parting: // it may have left: the answer timer tells
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
	if p.step == aborting || p.step == fencing {
		return
	}
	p.result, p.reason, p.then = result, reason, nil
	if say != nil && !p.died {
		p.say(say)
	}
	p.reclaim()
	if p.step = aborting; p.theirs {
		p.step, p.result = fencing, ResultRecalled
	}
	switch {
	case p.died:
	case p.step == fencing && say != nil: // it serves, and may not hear us
		p.do(Fence{reason})
	default:
		p.do(SetTimer{ExitTimer})
	}
}

// reclaim serves again what is not the successor's: it must not have touched it, for it was never given.
func (p *Predecessor) reclaim() {
	if frozen := p.sessions.at(offered); len(frozen) > 0 {
		p.sessions.put(atHome, frozen...)
		p.do(Thaw{frozen})
	}
	p.offers = nil
	p.forgetPlans()
	if !p.theirs {
		p.accept()
	}
}

// forgetPlans: nothing moves any more.
func (p *Predecessor) forgetPlans() {
	p.queue, p.intents, p.resting, p.busy, p.late = nil, nil, nil, nil, nil
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
	case p.step != aborting && p.step != fencing: // its end is the reason
		p.goBack(ResultRolledBack, p.how, nil)
	case p.silent:
		p.reason += "; " + p.how
	}
	p.step = ending
	if lent := slices.Concat(p.sessions.at(atHome), p.dead); len(lent) > 0 {
		p.do(Unlend{lent})
	}
	if p.theirs {
		p.do(Recall{p.sessions.at(given)})
	}
	p.accept()
	p.ask(Move{To: Serving, Why: p.reason}, func() { p.end(p.result, p.reason) })
}
