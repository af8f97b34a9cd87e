package protocol

import (
	"fmt"
	"slices"

	"baton/handoff/wire"
)

// From DONE to BYE. The successor serves, and we keep what it needs in order to be replaced, should it die: stragglers follow, copies of
// the sockets stay, beats are asked for.

func (p *Predecessor) done(m *wire.Done) {
	if m.Moved != p.giver.moved {
		p.do(Report{fmt.Sprintf("%d sessions were given, the successor says %d", p.giver.moved, m.Moved)})
	}
	p.step = draining
	p.releaseDead() // all that was on its way has arrived
	p.do(SetTimer{ProbationTimer}, SetTimer{BeatTimer}, SetTimer{DrainTimer}, Handed{m.Pause})
	p.giver.patient, p.giver.resting, p.giver.late = true, append(p.giver.resting, p.giver.late...), nil
	if p.stopped {
		p.hurry()
		return
	}
	p.pump()
}

func (p *Predecessor) release(copies []ID) {
	if len(copies) > 0 {
		p.do(Release{copies})
	}
}

func (p *Predecessor) releaseDead() {
	p.release(p.giver.dead)
	p.giver.dead = nil
}

func (p *Predecessor) askBeat() {
	switch {
	case p.step != draining && p.step != returning:
	case p.missed >= 2 && p.step == returning:
		p.giveUpOn("it missed two beats")
	case p.missed >= 2:
		p.distrust("the successor missed two beats")
	default:
		p.missed++
		p.beat++
		p.do(Send{&wire.Beat{N: p.beat}}, SetTimer{BeatTimer})
	}
}

// hurry: stragglers have had their time. Those that come to rest before they end still move.
func (p *Predecessor) hurry() {
	if left := p.giver.left(); len(left) > 0 {
		p.hurried = true
		p.giver.finish(slices.DeleteFunc(left, func(id ID) bool { return p.giver.sessions.where[id] == offered })) // frozen: see taken
		p.do(SetTimer{FinishTimer})
	}
	p.pump()
}

// abandon: stragglers did not even end. Nothing is gained by waiting for a handler that never returns.
func (p *Predecessor) abandon() {
	if left := p.giver.left(); p.step == draining && len(left) > 0 {
		p.abandoned, p.giver.closed = true, true
		p.do(Report{fmt.Sprintf("%d sessions did not end in time, and end with this process: %v", len(left), left)})
		p.pump()
	}
}

// leave ends our part once nothing is left to do.
func (p *Predecessor) leave() {
	left := p.giver.sessions.count[queued] + p.giver.sessions.count[atHome]
	switch {
	case p.giver.sessions.count[offered] > 0, left > 0 && !p.abandoned:
	case p.askedToGo:
		p.say(&wire.Bye{})
		p.depart("the successor said BYE")
	case p.waitedLong || p.stopped:
		p.step = parting
		p.giver.forgetPlans()
		p.do(Send{&wire.Bye{}}, SetTimer{AnswerTimer})
	}
}

// bye: the successor wants to be alone, or agrees to be.
func (p *Predecessor) bye() {
	if p.step == parting {
		p.depart("probation is over")
		return
	}
	p.askedToGo = true
	p.pump()
}

func (p *Predecessor) depart(why string) {
	p.step = ending
	p.giver.forgetPlans()
	p.release(p.giver.sessions.at(given))
	p.ask(Move{To: Exited, Why: why}, func() { p.end(ResultDone, why) })
}

func (p *Predecessor) end(r Result, why string) {
	p.step = over
	p.do(End{r, why})
}

// ended: sessions of ours have ended. Where the successor has a copy of the socket it is told, for that alone keeps it open.
func (p *Predecessor) ended(ids []ID) {
	lent := p.giver.ended(ids)
	if len(lent) > 0 && (p.step == moving || p.step == finishing || p.step == draining) { // at BYE it drops all copies, and else it is about to end
		p.say(&wire.Closed{IDs: lent})
	}
	if p.step == draining || p.step == parting { // before, they may still be on their way
		p.releaseDead()
	}
	p.pump()
}

// closedThere: sessions that are the successor's have ended; our copies of their sockets only keep them from closing.
func (p *Predecessor) closedThere(ids []ID) {
	var copies, lent []ID
	for _, id := range ids {
		switch {
		case p.giver.sessions.where[id] != given:
			lent = append(lent, id)
		case p.receiver.where[id] != taken: // else it is frozen there, and cannot have ended
			p.giver.sessions.put(unknown, id)
			copies = append(copies, id)
		}
	}
	p.receiver.put(nothing, copies)
	p.release(copies)
	p.receiver.closedThere(lent)
}
