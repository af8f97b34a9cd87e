package protocol

import (
	"fmt"
	"slices"

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
		p.abort("the successor said HELLO while " + string(p.step))
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

// enqueue has sessions lent in their turn. One may be named twice: as being there already, and as being opened.
func (p *Predecessor) enqueue(ids []ID) {
	if p.step != moving && p.step != finishing && p.step != draining {
		return // there is no handoff that they could be part of
	}
	for _, id := range ids {
		if p.sessions.where[id] == unknown {
			p.sessions.put(queued, id)
			p.queue = append(p.queue, id)
		}
	}
	if p.step == draining {
		p.do(SetTimer{DrainTimer})
	}
	p.pump()
}

// pump does what can be done next. While a question is open, nothing can.
func (p *Predecessor) pump() {
	if p.then != nil || p.step != moving && p.step != draining {
		return
	}
	p.lendMore()
	switch {
	case len(p.offers) < p.opt.MaxOffers && len(p.resting) > 0 && !p.abandoned:
		p.do(Freeze{cut(&p.resting, p.opt.OfferBatch)})
	case p.step == draining:
		p.leave()
	case len(p.queue)+len(p.intents)+len(p.resting)+len(p.busy)+len(p.offers) == 0: // all that can move has moved
		p.finish()
	}
}

// lendMore keeps enough sockets ahead of the offers, with the intent of the next batch being journaled while one is on its way.
func (p *Predecessor) lendMore() {
	for len(p.queue) > 0 && len(p.intents) < 2 && len(p.resting) < p.opt.LendBatch {
		p.batch++
		ids := cut(&p.queue, p.opt.LendBatch)
		p.intents = append(p.intents, intent{p.batch, ids})
		p.do(Intend{p.batch, ids})
	}
}

// intended takes a batch off those that are being journaled. There is none if the handoff was ended meanwhile.
func (p *Predecessor) intended(batch int) (ids []ID, ok bool) {
	i := slices.IndexFunc(p.intents, func(t intent) bool { return t.batch == batch })
	if i < 0 {
		return nil, false
	}
	ids = p.intents[i].ids
	p.intents = slices.Delete(p.intents, i, i+1)
	return ids, true
}

func (p *Predecessor) journaled(batch int) {
	if ids, ok := p.intended(batch); ok {
		p.sessions.put(unknown, ids...) // until Lent names those that are still there
		p.do(Lend{batch, ids})
	}
}

func (p *Predecessor) notJournaled(in NotJournaled) {
	if _, ok := p.intended(in.Batch); !ok {
		return
	}
	if reason := "the journal cannot be written: " + in.Reason; p.step == draining { // no reason to end a successor that serves
		p.do(Report{reason})
		p.pump()
	} else {
		p.abort(reason)
	}
}

func (p *Predecessor) lent(ids []ID) {
	p.sessions.put(atHome, ids...)
	p.resting = append(p.resting, ids...)
	p.pump()
}

func (p *Predecessor) frozen(in Frozen) {
	p.tryLater(in.Busy)
	for _, id := range sortedKeys(in.Failed) {
		p.reportOnce(id, fmt.Sprintf("session %v cannot be frozen: %s", id, in.Failed[id]))
		p.tryLater([]ID{id})
	}
	if len(in.IDs) > 0 {
		p.seq++
		p.sessions.put(offered, in.IDs...)
		p.offers = append(p.offers, offer{p.seq, in.IDs})
		p.do(Send{&wire.Offer{Seq: p.seq, FrozenAt: in.FrozenAt, IDs: in.IDs, States: in.States}}, SetTimer{AnswerTimer})
	}
	p.pump()
}

// tryLater puts sessions off that are not at rest, or were refused.
func (p *Predecessor) tryLater(ids []ID) {
	for _, id := range ids {
		if p.sessions.where[id] != atHome {
			continue
		}
		if p.tries[id]++; p.step == moving && p.tries[id] > p.opt.Retries {
			p.late = append(p.late, id)
			continue
		}
		if len(p.busy) == 0 {
			p.do(SetTimer{RetryTimer})
		}
		p.busy = append(p.busy, id)
	}
}

// reportOnce tells what is wrong with a session the first time it is tried in vain.
func (p *Predecessor) reportOnce(id ID, text string) {
	if p.tries[id] == 0 {
		p.do(Report{text})
	}
}

func (p *Predecessor) taken(m *wire.Take) {
	refused := make([]ID, len(m.Refused))
	for i, r := range m.Refused {
		refused[i] = r.ID
	}
	switch {
	case len(p.offers) == 0 || p.offers[0].seq != m.Seq:
		p.abort(fmt.Sprintf("the successor took offer %d, which is not the next", m.Seq))
		return
	case !samePeople(p.offers[0].ids, m.IDs, refused):
		p.abort(fmt.Sprintf("the successor took other sessions than those of offer %d", m.Seq))
		return
	case len(refused) > 0 && !p.theirs: // a clean rollback is better than a session that stays behind
		p.abort(fmt.Sprintf("the successor refused session %v: %s", refused[0], m.Refused[0].Reason))
		return
	}
	p.offers = p.offers[1:]
	p.stayed(m.Refused, refused)
	if len(m.IDs) == 0 {
		p.pump()
		return
	}
	p.theirs = true
	p.sessions.put(given, m.IDs...)
	for _, id := range m.IDs {
		delete(p.tries, id)
	}
	p.moved += len(m.IDs)
	p.giving = wire.Give{Seq: m.Seq, IDs: m.IDs}
	p.do(LetGo{m.IDs})
}

// stayed: these sessions were refused, after others were given.
func (p *Predecessor) stayed(refused []wire.Refusal, ids []ID) {
	if len(ids) == 0 {
		return
	}
	p.sessions.put(atHome, ids...)
	p.do(Thaw{ids})
	for _, r := range refused {
		p.reportOnce(r.ID, fmt.Sprintf("the successor refused session %v: %s", r.ID, r.Reason))
	}
	p.tryLater(ids)
	if p.hurried {
		p.finishThese(ids) // they were frozen when the others were told
	}
}

func (p *Predecessor) gave(in Gave) {
	give := p.giving
	give.Lates = in.Lates
	p.do(Send{&give}, Detach{give.IDs})
	p.pump()
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
		p.do(Send{&wire.Done{Moved: p.moved, Stragglers: p.sessions.count[atHome]}}, SetTimer{AnswerTimer})
	})
}
