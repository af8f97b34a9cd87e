package protocol

import (
	"fmt"

	"baton/handoff/wire"
)

// DefaultOptions are measured; see docs/design.md.
var DefaultOptions = Options{LendBatch: wire.MaxFDs, OfferBatch: 64, MaxOffers: 2, Retries: 10}

// step is how far the predecessor is.
//
//	greeting → agreeing
//	    └→ moving → finishing → draining → parting → ending → over      all goes well
//	any but the last two → aborting ──────────────→ ending → over       nothing was the successor's yet
//	moving … draining    → fencing ───────────────→ ending → over       something was
//	any but the last two, when the successor has died → ending → over
type step string

const (
	greeting  step = "greeting"  // waits for HELLO
	agreeing  step = "agreeing"  // waits for the answer to a dry run
	moving    step = "moving"    // batches are moving; we accept
	finishing step = "finishing" // we do not accept any more; DONE waits for an answer
	draining  step = "draining"  // the successor serves; stragglers follow; copies are kept
	parting   step = "parting"   // BYE was said, and waits for an answer
	aborting  step = "aborting"  // we serve everything again; the successor is about to exit
	fencing   step = "fencing"   // the successor is being ended, since something was its
	ending    step = "ending"    // the last move of our process's state is being made
	over      step = "over"
)

// A Predecessor is the side that has the sessions. Its way through a handoff is told, chapter by chapter, in predecessor_moving.go,
// predecessor_draining.go and predecessor_back.go; predecessor_timers.go has what may happen in all of them.
//
// Whatever happens, it comes to an End: with ResultDone, after which the process has nothing left to serve and exits; or with any other
// result, after which it serves. Until it has let go of the first session, or said DONE, everything that goes wrong leads back to serving
// all it had. After that, what was the successor's is only touched again when the successor has certainly ended.
//
// For a session it goes through Intend, Lend, Freeze, then LetGo or Thaw. A socket that was lent has a copy here, also when its session
// has ended or was given, until Release, Unlend or Recall names it: each copy is named once, at the latest before End.
type Predecessor struct {
	opt     Options
	step    step
	out     []Output
	then    func() // continues when the question that is open has been answered with yes; nil = none is open
	check   bool
	stopped bool // the process is asked to end

	accepting bool
	theirs    bool // the successor may be serving something: a session, or, since DONE was said, the listeners

	sessions register
	queue    []ID       // not lent yet, and not in the journal as about to be
	intents  []intent   // being journaled
	batch    int        // number of the newest of them
	resting  []ID       // at home, to be offered next
	busy     []ID       // at home, to be tried again when the timer runs out
	late     []ID       // at home, tried too often: stragglers
	tries    map[ID]int // how often a session was tried in vain
	dead     []ID       // ended after they were lent; their sockets may still be on their way
	offers   []offer    // unanswered, the oldest first
	seq      int
	giving   wire.Give // while LetGo is being answered
	moved    int

	missed     int  // beats asked for and not answered
	beat       int  // number of the newest of them
	waitedLong bool // probation is over
	askedToGo  bool // the successor has said BYE
	hurried    bool // stragglers were told to end
	abandoned  bool // they did not: they end with this process

	hailed bool   // the successor has said HELLO: there is a channel
	cut    bool   // nothing more comes from the channel
	died   bool   // the successor has certainly ended
	how    string // it has

	result Result // of the way back, with its reason
	reason string
	silent bool // the successor has not said why: its end will tell more
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

// NewPredecessor makes a machine that waits for Begin.
func NewPredecessor(opt Options) *Predecessor {
	return &Predecessor{opt: opt, accepting: true, sessions: register{where: map[ID]whereabouts{}}, tries: map[ID]int{}}
}

// Step tells the machine what has happened and returns what to do, in this order. See the package comment for what it relies on.
func (p *Predecessor) Step(in Input) []Output {
	p.out = nil
	switch in := in.(type) {
	case Moved, NotAccepting:
		p.answered()
		return p.out
	case MoveRefused:
		p.moveRefused(in.Reason)
		return p.out
	}
	if p.step == ending || p.step == over {
		return nil
	}
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
	case Opened:
		p.enqueue(in.IDs)
	case Journaled:
		p.journaled(in.Batch)
	case NotJournaled:
		p.notJournaled(in)
	case Lent:
		p.lent(in.IDs)
	case Frozen:
		p.frozen(in)
	case Gave:
		p.gave(in)
	case Ended:
		p.ended(in.IDs)
	case Expired:
		p.expired(in.Timer)
	case Stop:
		p.stop()
	case Broken:
		p.cut = true
		p.broken(in.Reason)
	case PeerDied:
		p.died, p.how = true, in.How
		p.peerDied()
	default:
		panic(fmt.Sprintf("protocol: predecessor cannot take %T", in))
	}
	return p.out
}

func (p *Predecessor) do(o ...Output) { p.out = append(p.out, o...) }

func (p *Predecessor) say(m wire.Message) { p.do(Send{m}) }

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

func (p *Predecessor) moveRefused(reason string) {
	if p.step == ending { // the way out is not to be closed by anybody
		p.do(Report{"going on, though the state could not be changed: " + reason})
		p.answered()
		return
	}
	p.then = nil
	p.abort("cannot go on: " + reason)
}

// received: what does not fit ends the handoff, but for answers to what was said before it ended.
func (p *Predecessor) received(m wire.Message) {
	back := p.step == aborting || p.step == fencing
	switch m := m.(type) {
	case *wire.Closed:
		p.closedThere(m.IDs)
	case *wire.Abort:
		p.abortedThere(m)
	case *wire.Hello:
		p.hello(m)
	default:
		if back || p.died { // the dead are only asked what they ended, and why
			return
		}
		p.goOn(m)
	}
}

// goOn: the successor says something by which a handoff goes on.
func (p *Predecessor) goOn(m wire.Message) {
	switch m := m.(type) {
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
	case *wire.Beat:
		p.missed = 0
		return
	case *wire.Bye:
		if p.step == draining || p.step == parting {
			p.bye()
			return
		}
	}
	p.abort(fmt.Sprintf("the successor said %v while %s", m.Type(), p.step))
}
