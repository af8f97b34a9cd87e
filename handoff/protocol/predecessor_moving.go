package protocol

import (
	"fmt"

	"baton/handoff/wire"
)

// From HELLO to DONE.

func (p *Predecessor) hello(m *wire.Hello) {
	switch {
	case p.step == greeting:
		p.hailed = true
		p.do(Greet{m})
	case p.step == aborting && !p.hailed: // it became ready just when it was given up
		p.hailed = true
		p.say(&wire.Abort{Code: wire.Failed, Reason: p.reason})
	default:
		p.distrust("the successor said HELLO while " + string(p.step))
	}
}

func (p *Predecessor) greeted(in Greeted) {
	in.Welcome.Check = p.check
	if p.check {
		p.step = agreeing
		p.do(SetTimer{AnswerTimer}, Send{in.Welcome})
		return
	}
	p.ask(Move{To: Transferring, Why: "the successor is ready"}, func() {
		p.step = moving
		p.do(SetTimer{TotalTimer}, Send{in.Welcome})
		p.enqueue(in.Sessions)
	})
}

// enqueue has sessions lent in their turn.
func (p *Predecessor) enqueue(ids []ID) {
	if p.step != moving && p.step != finishing && p.step != draining {
		return // there is no handoff that they could be part of
	}
	p.giver.enqueue(ids)
	if p.step == draining {
		p.do(SetTimer{DrainTimer})
	}
	p.pump()
}

// pump does what can be done next. While a question is open, nothing can.
func (p *Predecessor) pump() {
	switch {
	case p.then != nil || p.step != moving && p.step != draining:
	case p.giver.pump():
	case p.step == draining:
		p.leave()
	case p.giver.idle():
		p.finish()
	}
}

func (p *Predecessor) journaled(batch int) { p.giver.journaled(batch) }

func (p *Predecessor) notJournaled(in NotJournaled) {
	if _, ok := p.giver.intended(in.Batch); !ok {
		return
	}
	if reason := "the journal cannot be written: " + in.Reason; p.step == draining { // no reason to end a successor that serves
		p.do(Report{reason})
		p.pump()
	} else {
		p.abort(reason)
	}
}

func (p *Predecessor) taken(m *wire.Take) {
	again, twice := p.giver.refusedAgain(m)
	switch wrong := p.giver.misfit(m); {
	case wrong != "":
		p.distrust(wrong)
		return
	case len(m.Refused) > 0 && !p.theirs: // a clean rollback is better than a session that stays behind
		again, twice = m.Refused[0], true
	case p.hurried: // it is about to end, wherever it is
		twice = false
	}
	if twice {
		p.abort(fmt.Sprintf("the successor refused session %v: %s", again.ID, again.Reason))
		return
	}
	p.theirs = p.theirs || len(m.IDs) > 0
	p.giver.taken(m, p.hurried)
	if len(m.IDs) == 0 {
		p.pump()
	}
}

// finish: what has not moved by now cannot, and no more comes once we do not accept.
func (p *Predecessor) finish() {
	if p.accepting {
		p.accepting = false
		p.ask(StopAccepting{}, p.pump)
		return
	}
	p.ask(Move{To: Draining, Why: "all that can move has moved"}, func() {
		p.step, p.theirs = finishing, true
		p.do(Send{&wire.Done{Moved: p.giver.moved, Stragglers: p.giver.sessions.count[atHome]}}, SetTimer{AnswerTimer})
	})
}
