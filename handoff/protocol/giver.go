package protocol

import (
	"fmt"
	"slices"

	"baton/handoff/wire"
)

// A giver is the half of either machine that lets sessions go: the predecessor's on the way there, the successor's on the way back. It
// lends, offers and gives; what leads to that, and what follows from it, is for the machine around it.
type giver struct {
	*machine
	opt     Options
	to      string // who gets them, for people
	intend  bool   // a batch is in the journal before it is lent. The way back needs no journal
	patient bool   // a session is tried as often as it takes, and never late
	closed  bool   // nothing more is offered

	sessions register
	queue    []ID        // not lent yet, and not in the journal as about to be
	intents  []intent    // being journaled
	batch    int         // number of the newest of them
	resting  []ID        // at home, to be offered next
	busy     []ID        // at home, to be tried again when the timer runs out
	late     []ID        // at home, tried too often: stragglers
	tries    map[ID]int  // how often a session was tried in vain
	refused  map[ID]bool // once
	dead     []ID        // ended after they were lent; their sockets may still be on their way
	offers   []offer     // unanswered, the oldest first
	seq      int
	giving   wire.Give // while LetGo is being answered
	moved    int
}

// An intent to lend sessions, on its way into the journal.
type intent struct {
	batch int
	ids   []ID
}

// An offer that waits for its TAKE.
type offer struct {
	seq int
	ids []ID
}

func newGiver(m *machine, opt Options, to string) giver {
	return giver{
		machine: m, opt: opt, to: to,
		sessions: register{where: map[ID]whereabouts{}}, tries: map[ID]int{}, refused: map[ID]bool{},
	}
}

// enqueue has sessions lent in their turn. One may be named twice: as being there already, and as being opened.
func (g *giver) enqueue(ids []ID) {
	for _, id := range ids {
		if g.sessions.where[id] == unknown {
			g.sessions.put(queued, id)
			g.queue = append(g.queue, id)
		}
	}
}

// pump does what can be done next, and reports whether that was a question.
func (g *giver) pump() (asked bool) {
	if g.lendMore() {
		return true
	}
	if len(g.offers) >= g.opt.MaxOffers || len(g.resting) == 0 || g.closed {
		return false
	}
	g.do(Freeze{cut(&g.resting, g.opt.OfferBatch)})
	return true
}

// idle reports whether all that can move has moved.
func (g *giver) idle() bool {
	return len(g.queue)+len(g.intents)+len(g.resting)+len(g.busy)+len(g.offers) == 0
}

// left are the sessions that are still ours.
func (g *giver) left() []ID { return g.sessions.at(queued, atHome, offered) }

// lendMore keeps enough sockets ahead of the offers, with the intent of the next batch being journaled while one is on its way.
func (g *giver) lendMore() (asked bool) {
	for len(g.queue) > 0 && len(g.intents) < 2 && len(g.resting) < g.opt.LendBatch {
		g.batch++
		ids := cut(&g.queue, g.opt.LendBatch)
		if !g.intend {
			g.lend(g.batch, ids)
			return true
		}
		g.intents = append(g.intents, intent{g.batch, ids})
		g.do(Intend{g.batch, ids})
	}
	return false
}

func (g *giver) lend(batch int, ids []ID) {
	g.sessions.put(unknown, ids...) // until Lent names those that are still there
	g.do(Lend{batch, ids})
}

// intended takes a batch off those that are being journaled. There is none if the handoff was ended meanwhile.
func (g *giver) intended(batch int) (ids []ID, ok bool) {
	i := slices.IndexFunc(g.intents, func(t intent) bool { return t.batch == batch })
	if i < 0 {
		return nil, false
	}
	ids = g.intents[i].ids
	g.intents = slices.Delete(g.intents, i, i+1)
	return ids, true
}

func (g *giver) journaled(batch int) {
	if ids, ok := g.intended(batch); ok {
		g.lend(batch, ids)
	}
}

// lent: the other side has, or is about to get, copies of these sockets.
func (g *giver) lent(ids []ID) {
	g.sessions.put(atHome, ids...)
	g.resting = append(g.resting, ids...)
}

func (g *giver) frozen(in Frozen) {
	g.tryLater(in.Busy)
	for _, id := range sortedKeys(in.Failed) {
		g.reportOnce(id, fmt.Sprintf("session %v cannot be frozen: %s", id, in.Failed[id]))
		g.tryLater([]ID{id})
	}
	if len(in.IDs) > 0 {
		g.seq++
		g.sessions.put(offered, in.IDs...)
		g.offers = append(g.offers, offer{g.seq, in.IDs})
		g.do(Send{&wire.Offer{Seq: g.seq, FrozenAt: in.FrozenAt, IDs: in.IDs, States: in.States}}, SetTimer{AnswerTimer})
	}
}

// tryLater puts sessions off that are not at rest, or were refused.
func (g *giver) tryLater(ids []ID) {
	for _, id := range ids {
		if g.sessions.where[id] != atHome {
			continue
		}
		if g.tries[id]++; !g.patient && g.tries[id] > g.opt.Retries {
			g.late = append(g.late, id)
			continue
		}
		if len(g.busy) == 0 {
			g.do(SetTimer{RetryTimer})
		}
		g.busy = append(g.busy, id)
	}
}

// tryAgain: those that were put off have had some time.
func (g *giver) tryAgain() { g.resting, g.busy = append(g.resting, g.busy...), nil }

// reportOnce tells what is wrong with a session the first time it is tried in vain.
func (g *giver) reportOnce(id ID, text string) {
	if g.tries[id] == 0 {
		g.do(Report{text})
	}
}

// misfit says what is wrong with an answer; "" if it is one to the oldest offer.
func (g *giver) misfit(m *wire.Take) string {
	switch {
	case len(g.offers) == 0 || g.offers[0].seq != m.Seq:
		return fmt.Sprintf("the %s took offer %d, which is not the next", g.to, m.Seq)
	case !samePeople(g.offers[0].ids, m.IDs, refusedIn(m)):
		return fmt.Sprintf("the %s took other sessions than those of offer %d", g.to, m.Seq)
	}
	return ""
}

func refusedIn(m *wire.Take) []ID {
	ids := make([]ID, len(m.Refused))
	for i, r := range m.Refused {
		ids[i] = r.ID
	}
	return ids
}

// refusedAgain returns a session that is refused for the second time.
func (g *giver) refusedAgain(m *wire.Take) (wire.Refusal, bool) {
	i := slices.IndexFunc(m.Refused, func(r wire.Refusal) bool { return g.refused[r.ID] })
	if i < 0 {
		return wire.Refusal{}, false
	}
	return m.Refused[i], true
}

// taken lets go of what was taken, and takes back what was not: to be tried again, and told to end if there is no time for that. It asks a
// question if anything was taken.
func (g *giver) taken(m *wire.Take, hurried bool) {
	g.offers = g.offers[1:]
	if len(m.Refused) > 0 {
		ids := refusedIn(m)
		g.sessions.put(atHome, ids...)
		g.do(Thaw{ids})
		for _, r := range m.Refused {
			g.reportOnce(r.ID, fmt.Sprintf("the %s refused session %v: %s", g.to, r.ID, r.Reason))
			g.refused[r.ID] = true
		}
		g.tryLater(ids)
		if hurried { // they were frozen when the others were told
			g.finish(ids)
		}
	}
	if len(m.IDs) == 0 {
		return
	}
	g.sessions.put(given, m.IDs...)
	g.settled(m.IDs)
	g.moved += len(m.IDs)
	g.giving = wire.Give{Seq: m.Seq, IDs: m.IDs}
	g.do(LetGo{m.IDs})
}

func (g *giver) settled(ids []ID) {
	for _, id := range ids {
		delete(g.tries, id)
		delete(g.refused, id)
	}
}

func (g *giver) gave(in Gave) {
	give := g.giving
	give.Lates = in.Lates
	g.do(Send{&give}, Detach{give.IDs})
}

// ended: sessions of ours have ended. It returns those of which the other side has a copy.
func (g *giver) ended(ids []ID) (lent []ID) {
	for _, id := range ids {
		switch g.sessions.where[id] {
		case atHome:
			lent = append(lent, id)
		case queued: // nobody else knows it; Lend will leave it out
		default:
			continue
		}
		g.sessions.put(unknown, id)
		g.settled([]ID{id})
	}
	gone := func(id ID) bool { return g.sessions.where[id] == unknown }
	g.resting, g.busy, g.late = slices.DeleteFunc(g.resting, gone), slices.DeleteFunc(g.busy, gone), slices.DeleteFunc(g.late, gone)
	g.dead = append(g.dead, lent...)
	return lent
}

// keep takes back what is offered, and forgets all plans: nothing moves any more.
func (g *giver) keep() {
	if frozen := g.sessions.at(offered); len(frozen) > 0 {
		g.sessions.put(atHome, frozen...)
		g.do(Thaw{frozen})
	}
	g.offers = nil
	g.forgetPlans()
}

func (g *giver) forgetPlans() {
	g.queue, g.intents, g.resting, g.busy, g.late = nil, nil, nil, nil, nil
}

// finish ends sessions that do not come to rest.
func (g *giver) finish(ids []ID) {
	if len(ids) > 0 {
		g.do(Finish{ids})
	}
}
