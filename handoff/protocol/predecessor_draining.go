package protocol

import (
	"fmt"
	"slices"

	"baton/handoff/wire"
)

// From DONE to BYE. The successor serves, and we keep what it needs in order to be replaced, should it die: stragglers follow, copies of
// the sockets stay, beats are asked for.

func (p *Predecessor) done(m *wire.Done) {
	if m.Moved != p.moved {
		p.do(Report{fmt.Sprintf("%d sessions were given, the successor says %d", p.moved, m.Moved)})
	}
	p.step = draining
	p.release(p.dead) // all that was on its way has arrived
	p.dead = nil
	p.do(SetTimer{ProbationTimer}, SetTimer{BeatTimer}, SetTimer{DrainTimer}, Handed{m.Pause})
	p.resting, p.late = append(p.resting, p.late...), nil
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

func (p *Predecessor) askBeat() {
	switch {
	case p.step != draining:
	case p.missed >= 2:
		p.abort("the successor missed two beats")
	default:
		p.missed++
		p.beat++
		p.do(Send{&wire.Beat{N: p.beat}}, SetTimer{BeatTimer})
	}
}

// hurry: stragglers have had their time. Those that come to rest before they end still move.
func (p *Predecessor) hurry() {
	if left := p.left(); len(left) > 0 {
		p.hurried = true
		p.finishThese(slices.DeleteFunc(left, func(id ID) bool { return p.sessions.where[id] == offered })) // frozen: see stayed
		p.do(SetTimer{FinishTimer})
	}
	p.pump()
}

func (p *Predecessor) finishThese(ids []ID) {
	if len(ids) > 0 {
		p.do(Finish{ids})
	}
}

// left are the sessions that are still ours.
func (p *Predecessor) left() []ID { return p.sessions.at(queued, atHome, offered) }

// abandon: stragglers did not even end. Nothing is gained by waiting for a handler that never returns.
func (p *Predecessor) abandon() {
	if left := p.left(); p.step == draining && len(left) > 0 {
		p.abandoned = true
		p.do(Report{fmt.Sprintf("%d sessions did not end in time, and end with this process: %v", len(left), left)})
		p.pump()
	}
}

// leave ends our part once nothing is left to do.
func (p *Predecessor) leave() {
	left := p.sessions.count[queued] + p.sessions.count[atHome]
	switch {
	case p.sessions.count[offered] > 0, left > 0 && !p.abandoned:
	case p.askedToGo:
		p.say(&wire.Bye{})
		p.depart("the successor said BYE")
	case p.waitedLong || p.stopped:
		p.step = parting
		p.forgetPlans()
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
	p.forgetPlans()
	p.release(p.sessions.at(given))
	p.ask(Move{To: Exited, Why: why}, func() { p.end(ResultDone, why) })
}

func (p *Predecessor) end(r Result, why string) {
	p.step = over
	p.do(End{r, why})
}

// ended: sessions of ours have ended. Where the successor has a copy of the socket it is told, for that alone keeps it open.
func (p *Predecessor) ended(ids []ID) {
	var lent []ID
	for _, id := range ids {
		switch p.sessions.where[id] {
		case atHome:
			lent = append(lent, id)
		case queued: // nobody else knows it; Lend will leave it out
		default:
			continue
		}
		p.sessions.put(unknown, id)
		delete(p.tries, id)
	}
	gone := func(id ID) bool { return p.sessions.where[id] == unknown }
	p.resting, p.busy, p.late = slices.DeleteFunc(p.resting, gone), slices.DeleteFunc(p.busy, gone), slices.DeleteFunc(p.late, gone)
	switch {
	case len(lent) == 0:
	case p.step == moving || p.step == finishing:
		p.say(&wire.Closed{IDs: lent})
		p.dead = append(p.dead, lent...)
	case p.step == draining:
		p.say(&wire.Closed{IDs: lent})
		p.release(lent)
	case p.step == parting: // the successor has dropped its copies, at BYE
		p.release(lent)
	default: // they may still be on their way, and nothing can be said any more
		p.dead = append(p.dead, lent...)
	}
	p.pump()
}

// closedThere: sessions given have ended; our copies of their sockets only keep them from closing.
func (p *Predecessor) closedThere(ids []ID) {
	var copies []ID
	for _, id := range ids {
		if p.sessions.where[id] == given {
			p.sessions.put(unknown, id)
			copies = append(copies, id)
		}
	}
	p.release(copies)
}
