package protocol

import (
	"fmt"
	"slices"

	"baton/handoff/wire"
)

// Options are the sizes and numbers that shape a handoff.
type Options struct {
	LendBatch  int // sessions whose sockets travel in one message, at most wire.MaxFDs
	OfferBatch int // sessions that are frozen together
	MaxOffers  int // offers that may wait for an answer
	Retries    int // times that a busy session is tried before it is a straggler
}

// DefaultOptions are measured; see docs/design.md.
var DefaultOptions = Options{LendBatch: wire.MaxFDs, OfferBatch: 64, MaxOffers: 2, Retries: 10}

// step is how far the predecessor is.
//
//	greeting → agreeing → moving → finishing → draining → parting → over
//	    └──────────┴─────────┴─────────┴→ aborting ────────────────→ over     until the first give
//	                         └─────────┴──────┴──────→ fencing ────→ over     after it
type step string

const (
	greeting  step = "greeting"  // waits for HELLO
	agreeing  step = "agreeing"  // waits for the answer to a dry run
	moving    step = "moving"    // batches are moving; we accept
	finishing step = "finishing" // we do not accept any more; DONE waits for an answer
	draining  step = "draining"  // the successor serves; stragglers follow; copies are kept
	parting   step = "parting"   // BYE was said, and waits for an answer
	aborting  step = "aborting"  // we serve everything again; the successor is about to exit
	fencing   step = "fencing"   // the successor is being ended, since some sessions were its
	over      step = "over"
)

// whereabouts of a session that is known to the handoff.
type whereabouts uint8

const (
	queued  whereabouts = iota + 1 // not lent yet, and served by us
	atHome                         // lent, and served by us
	offered                        // frozen, its state sent
	given                          // the successor's
)

// A Predecessor is the side that has the sessions.
type Predecessor struct {
	opt     Options
	step    step
	out     []Output
	then    func() // continues when the question that is open has been answered with yes
	check   bool
	stopped bool

	accepting bool
	queue     []ID       // ours, not lent yet
	intents   [][]ID     // batches whose intent is being journaled, the oldest first
	batch     int        // number of the oldest of them
	resting   []ID       // at home, to be offered next
	busy      []ID       // at home, to be tried again when the timer runs out
	late      []ID       // at home, tried too often: stragglers
	tries     map[ID]int // how often a session was tried in vain
	where     map[ID]whereabouts
	count     [given + 1]int // of sessions, by whereabouts
	dead      []ID           // ended after they were lent; their sockets may still be on their way
	offers    []offer        // unanswered, the oldest first
	seq       int
	gave      bool
	moved     int
	giving    wire.Give // while LetGo is being answered

	missed     int // beats asked for and not answered
	beat       int
	waitedLong bool // probation is over
	askedToGo  bool // the successor has said BYE
	result     Result
	reason     string
}

type offer struct {
	seq int
	ids []ID
}

// NewPredecessor makes a machine that waits for Begin.
func NewPredecessor(opt Options) *Predecessor {
	return &Predecessor{opt: opt, accepting: true, batch: 1, where: map[ID]whereabouts{}, tries: map[ID]int{}}
}

// Step tells the machine what has happened and returns what to do.
func (p *Predecessor) Step(in Input) []Output {
	p.out = nil
	switch in := in.(type) {
	case Begin:
		p.step, p.check = greeting, in.Check
		p.do(SetTimer{HelloTimer})
	case Received:
		p.received(in.Message)
	case Greeted:
		p.greeted(in)
	case Unfit:
		p.refuse(in.Reason)
	case Moved, NotAccepting:
		p.answered()
	case MoveRefused:
		p.then = nil
		p.abort("cannot go on: " + in.Reason)
	case Journaled:
		p.journaled(in.Batch)
	case NotJournaled:
		p.abort("the journal cannot be written: " + in.Reason)
	case Lent:
		p.lent(in.IDs)
	case Frozen:
		p.frozen(in)
	case Gave:
		p.letGo(in)
	case Opened:
		if p.step == moving {
			p.enqueue(in.IDs)
			p.pump()
		}
	case Ended:
		p.ended(in.IDs)
	case Expired:
		p.expired(in.Timer)
	case PeerDied:
		p.peerDied(in.How)
	case Broken:
		p.broken(in.Reason)
	case Stop:
		p.stop()
	default:
		panic(fmt.Sprintf("protocol: predecessor cannot take %T", in))
	}
	return p.out
}

func (p *Predecessor) do(o ...Output) { p.out = append(p.out, o...) }

// ask asks a question and says what to do when the answer is yes. It has to be the last thing done in a step.
func (p *Predecessor) ask(question Output, then func()) {
	p.then = then
	p.do(question)
}

func (p *Predecessor) answered() {
	if then := p.then; then != nil {
		p.then = nil
		then()
	}
}

func (p *Predecessor) received(m wire.Message) {
	switch m := m.(type) {
	case *wire.Hello:
		if p.step == greeting {
			p.do(Greet{m})
			return
		}
	case *wire.Take:
		if p.step == moving || p.step == draining {
			p.taken(m)
			return
		}
	case *wire.Done:
		if p.step == finishing {
			p.done(m)
			return
		}
	case *wire.Closed:
		p.closedThere(m.IDs)
		return
	case *wire.Beat:
		p.missed = 0
		return
	case *wire.Bye:
		p.bye()
		return
	case *wire.Abort:
		p.abortedThere(m)
		return
	}
	if p.step != aborting && p.step != fencing { // where answers to what was said before may still come
		p.abort(fmt.Sprintf("the successor said %v while %s", m.Type(), p.step))
	}
}

// From HELLO to the first batch.

func (p *Predecessor) greeted(in Greeted) {
	in.Welcome.Check = p.check
	if p.check {
		p.step = agreeing
		p.do(SetTimer{AnswerTimer}, Send{in.Welcome})
		return
	}
	p.ask(Move{Transferring, "the successor is ready"}, func() {
		p.step = moving
		p.enqueue(in.Sessions)
		p.do(SetTimer{TotalTimer}, Send{in.Welcome})
		p.pump()
	})
}

// enqueue has sessions lent in their turn. One may be named twice: as being there already, and as being opened.
func (p *Predecessor) enqueue(ids []ID) {
	for _, id := range ids {
		if p.where[id] == 0 {
			p.put(id, queued)
			p.queue = append(p.queue, id)
		}
	}
}

// pump does what can be done next.
func (p *Predecessor) pump() {
	if p.step != moving && p.step != draining {
		return
	}
	p.lendMore()
	switch {
	case len(p.offers) < p.opt.MaxOffers && len(p.resting) > 0:
		p.do(Freeze{take(&p.resting, p.opt.OfferBatch)})
	case p.step == moving && p.allMoved():
		p.finish()
	case p.step == draining:
		p.leave()
	}
}

// take cuts the first n off a list.
func take(list *[]ID, n int) []ID {
	n = min(n, len(*list))
	head := (*list)[:n:n]
	*list = (*list)[n:]
	return head
}

// lendMore keeps enough sockets ahead of the offers.
func (p *Predecessor) lendMore() {
	for len(p.queue) > 0 && len(p.intents) < 2 && len(p.resting) < p.opt.LendBatch {
		ids := take(&p.queue, p.opt.LendBatch)
		p.intents = append(p.intents, ids)
		p.do(Intend{p.batch + len(p.intents) - 1, ids})
	}
}

func (p *Predecessor) journaled(batch int) {
	if len(p.intents) == 0 || batch != p.batch || p.step != moving {
		return // the handoff was aborted meanwhile
	}
	ids := p.intents[0]
	p.intents = p.intents[1:]
	p.batch++
	for _, id := range ids {
		p.put(id, 0) // until Lent names those that are still there
	}
	p.do(Lend{batch, ids})
}

func (p *Predecessor) lent(ids []ID) {
	for _, id := range ids {
		p.put(id, atHome)
	}
	p.resting = append(p.resting, ids...)
	p.pump()
}

func (p *Predecessor) put(id ID, w whereabouts) {
	p.count[p.where[id]]--
	p.count[w]++
	if p.where[id] = w; w == 0 {
		delete(p.where, id)
	}
}

func (p *Predecessor) frozen(in Frozen) {
	p.tryLater(in.Busy)
	for _, id := range sortedKeys(in.Failed) {
		p.do(Report{fmt.Sprintf("session %v cannot be frozen: %s", id, in.Failed[id])})
		p.tryLater([]ID{id})
	}
	if len(in.IDs) > 0 {
		p.seq++
		for _, id := range in.IDs {
			p.put(id, offered)
		}
		p.offers = append(p.offers, offer{p.seq, in.IDs})
		p.do(Send{&wire.Offer{Seq: p.seq, FrozenAt: in.FrozenAt, IDs: in.IDs, States: in.States}}, SetTimer{AnswerTimer})
	}
	p.pump()
}

func sortedKeys[V any](m map[ID]V) []ID {
	keys := make([]ID, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// tryLater puts sessions off that are not at rest, or were refused.
func (p *Predecessor) tryLater(ids []ID) {
	for _, id := range ids {
		if p.where[id] == 0 {
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

func (p *Predecessor) taken(m *wire.Take) {
	if len(p.offers) == 0 || p.offers[0].seq != m.Seq {
		p.abort(fmt.Sprintf("the successor took offer %d, which is not the next", m.Seq))
		return
	}
	refused := make([]ID, len(m.Refused))
	for i, r := range m.Refused {
		refused[i] = r.ID
	}
	if !samePeople(p.offers[0].ids, m.IDs, refused) {
		p.abort(fmt.Sprintf("the successor took other sessions than those of offer %d", m.Seq))
		return
	}
	if len(refused) > 0 && !p.gave {
		p.abort(fmt.Sprintf("the successor refused session %v: %s", refused[0], m.Refused[0].Reason))
		return
	}
	p.offers = p.offers[1:]
	if len(refused) > 0 {
		p.do(Thaw{refused}, Report{fmt.Sprintf("the successor refused session %v: %s", refused[0], m.Refused[0].Reason)})
		for _, id := range refused {
			p.put(id, atHome)
		}
		p.tryLater(refused)
	}
	if len(m.IDs) == 0 {
		p.pump()
		return
	}
	for _, id := range m.IDs {
		p.put(id, given)
		delete(p.tries, id)
	}
	p.gave = true
	p.moved += len(m.IDs)
	p.giving = wire.Give{Seq: m.Seq, IDs: m.IDs}
	p.do(LetGo{m.IDs})
}

// samePeople reports whether a and b together are the same ids as all.
func samePeople(all, a, b []ID) bool {
	if len(a)+len(b) != len(all) {
		return false
	}
	both := slices.Concat(a, b)
	want := slices.Clone(all)
	slices.Sort(both)
	slices.Sort(want)
	return slices.Equal(both, want)
}

func (p *Predecessor) letGo(in Gave) {
	give := p.giving
	give.Lates = in.Lates
	p.do(Send{&give}, Detach{give.IDs})
	p.pump()
}

// The end of the transfer.

func (p *Predecessor) allMoved() bool {
	return len(p.queue) == 0 && len(p.intents) == 0 && len(p.resting) == 0 && len(p.busy) == 0 && len(p.offers) == 0
}

func (p *Predecessor) finish() {
	if p.accepting {
		p.accepting = false
		p.ask(StopAccepting{}, p.pump)
		return
	}
	p.ask(Move{Draining, "all that can move has moved"}, func() {
		p.step = finishing
		p.do(Send{&wire.Done{Moved: p.moved, Stragglers: p.count[atHome]}}, SetTimer{AnswerTimer})
	})
}

func (p *Predecessor) done(m *wire.Done) {
	if m.Moved != p.moved {
		p.do(Report{fmt.Sprintf("%d sessions were given, the successor says %d", p.moved, m.Moved)})
	}
	p.step = draining
	p.do(Release{p.dead}, SetTimer{ProbationTimer}, SetTimer{BeatTimer}, Handed{m.Pause})
	p.dead = nil
	if p.count[atHome] > 0 {
		p.busy, p.late = p.late, nil
		p.do(SetTimer{DrainTimer}, SetTimer{RetryTimer})
	}
	p.leave()
}

// leave ends the predecessor's part once nothing is left to do.
func (p *Predecessor) leave() {
	switch {
	case p.count[atHome] > 0 || p.count[offered] > 0:
	case p.askedToGo:
		p.do(Send{&wire.Bye{}})
		p.depart("the successor said BYE")
	case p.waitedLong || p.stopped:
		p.step = parting
		p.do(Send{&wire.Bye{}}, SetTimer{AnswerTimer})
	}
}

func (p *Predecessor) bye() {
	switch p.step {
	case draining:
		p.askedToGo = true
		p.leave()
	case parting:
		p.depart("probation is over")
	case aborting, fencing, over:
	default:
		p.abort("the successor said BYE while " + string(p.step))
	}
}

func (p *Predecessor) depart(why string) {
	p.step = over
	p.do(Release{p.members(given)})
	p.ask(Move{Exited, why}, func() { p.do(End{ResultDone, why}) })
}

// members returns the sessions with these whereabouts, in order.
func (p *Predecessor) members(w whereabouts) []ID {
	ids := make([]ID, 0, p.count[w])
	for id, at := range p.where {
		if at == w {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// What may happen at any time.

// ended: sessions of ours have ended.
func (p *Predecessor) ended(ids []ID) {
	var told []ID
	for _, id := range ids {
		if p.where[id] != atHome {
			continue // not lent yet: Lend will leave it out
		}
		p.put(id, 0)
		delete(p.tries, id)
		told = append(told, id)
	}
	if len(told) == 0 || p.step == aborting || p.step == fencing {
		p.dead = append(p.dead, told...)
		return
	}
	gone := func(id ID) bool { return p.where[id] == 0 }
	p.resting = slices.DeleteFunc(p.resting, gone)
	p.busy = slices.DeleteFunc(p.busy, gone)
	p.late = slices.DeleteFunc(p.late, gone)
	p.do(Send{&wire.Closed{IDs: told}})
	if p.step == draining {
		p.do(Release{told})
	} else {
		p.dead = append(p.dead, told...)
	}
	p.pump()
}

// closedThere: sessions given have ended; our copies of their sockets only keep them from closing.
func (p *Predecessor) closedThere(ids []ID) {
	var copies []ID
	for _, id := range ids {
		if p.where[id] == given {
			p.put(id, 0)
			copies = append(copies, id)
		}
	}
	if len(copies) > 0 {
		p.do(Release{copies})
	}
}

func (p *Predecessor) expired(t Timer) {
	switch t {
	case HelloTimer:
		if p.step == greeting {
			p.abort("the successor did not become ready in time")
		}
	case AnswerTimer:
		p.unanswered()
	case TotalTimer:
		if p.step == moving || p.step == finishing {
			p.abort("the handoff took too long")
		}
	case RetryTimer:
		p.resting = append(p.resting, p.busy...)
		p.busy = nil
		p.pump()
	case DrainTimer:
		if p.step == draining && p.count[atHome] > 0 {
			p.do(Finish{p.members(atHome)})
		}
	case ProbationTimer:
		p.waitedLong = true
		if p.step == draining {
			p.leave()
		}
	case BeatTimer:
		p.askBeat()
	case ExitTimer:
		if p.step == aborting || p.step == fencing {
			p.do(Fence{p.reason})
		}
	}
}

func (p *Predecessor) unanswered() {
	switch {
	case p.step == agreeing, p.step == finishing, p.step == parting,
		(p.step == moving || p.step == draining) && len(p.offers) > 0:
		p.abort("the successor did not answer in time while " + string(p.step))
	}
}

func (p *Predecessor) askBeat() {
	if p.step != draining {
		return
	}
	if p.missed >= 2 {
		p.abort("the successor missed two beats")
		return
	}
	p.missed++
	p.beat++
	p.do(Send{&wire.Beat{N: p.beat}}, SetTimer{BeatTimer})
}

func (p *Predecessor) stop() {
	p.stopped = true
	switch p.step {
	case greeting, agreeing, moving, finishing:
		p.abort("the server was asked to stop")
	case draining:
		if ids := p.members(atHome); len(ids) > 0 {
			p.do(Finish{ids})
		}
		p.leave()
	}
}

// The ways back.

// refuse ends the handoff with a successor that will not do.
func (p *Predecessor) refuse(reason string) {
	p.wayBack(ResultRolledBack, reason, &wire.Abort{Code: wire.Refused, Reason: reason})
}

// abort ends the handoff for a reason of ours.
func (p *Predecessor) abort(reason string) {
	p.wayBack(ResultRolledBack, reason, &wire.Abort{Code: wire.Failed, Reason: reason})
}

// abortedThere: the successor ends the handoff; it exits of its own accord.
func (p *Predecessor) abortedThere(m *wire.Abort) {
	if m.Code == wire.Checked && p.step == agreeing {
		p.wayBack(ResultChecked, "an upgrade would work", nil)
		return
	}
	p.wayBack(ResultRolledBack, "the successor refused: "+m.Reason, nil)
}

// broken: nothing more can be said. The other process has most likely just died; if not, it is ended when it had its time.
func (p *Predecessor) broken(reason string) { p.wayBack(ResultRolledBack, reason, nil) }

// wayBack leads to Serving. Until the first give the successor has touched nothing: all is ours at once, and the successor, having been
// told, exits. After it, sessions are the successor's, and only its end makes them ours again.
func (p *Predecessor) wayBack(result Result, reason string, say *wire.Abort) {
	if p.step == aborting || p.step == fencing || p.step == over {
		return
	}
	p.result, p.reason, p.then = result, reason, nil
	p.queue, p.intents = nil, nil
	if say != nil {
		p.do(Send{say})
	}
	p.reclaim()
	if !p.gave {
		p.step = aborting
		p.do(SetTimer{ExitTimer})
		return
	}
	p.result = ResultRecalled
	said := p.step == draining || p.step == finishing
	p.step = fencing
	if say == nil && said {
		p.do(SetTimer{ExitTimer}) // it is most likely dying as we speak
		return
	}
	p.do(Fence{reason})
}

// reclaim serves again what is not the successor's.
func (p *Predecessor) reclaim() {
	if frozen := p.members(offered); len(frozen) > 0 {
		for _, id := range frozen {
			p.put(id, atHome)
		}
		p.do(Thaw{frozen})
	}
	p.offers, p.resting, p.busy, p.late = nil, nil, nil, nil
	if !p.accepting && !p.gave {
		p.accepting = true
		p.do(Accept{})
	}
}

// peerDied: whatever the successor held is ours to decide on.
func (p *Predecessor) peerDied(how string) {
	if p.step == over {
		return
	}
	if p.step != aborting && p.step != fencing {
		p.result, p.reason, p.then = ResultRolledBack, how, nil
		p.queue, p.intents = nil, nil
		p.reclaim()
	}
	p.step = over
	p.do(Unlend{slices.Concat(p.members(atHome), p.dead)})
	if p.gave {
		p.result = ResultRecalled
		p.do(Recall{p.members(given)})
	}
	if !p.accepting {
		p.do(Accept{})
	}
	p.ask(Move{Serving, p.reason}, func() { p.do(End{p.result, p.reason}) })
}
