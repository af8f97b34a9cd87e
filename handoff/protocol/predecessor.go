package protocol

import (
	"fmt"

	"baton/handoff/wire"
)

// DefaultOptions: as many sockets as a message takes, and offers so small that their sessions do not stand still for long.
var DefaultOptions = Options{LendBatch: wire.MaxFDs, OfferBatch: 16, MaxOffers: 2, Retries: 10}

// step is how far the predecessor is.
//
//	greeting → agreeing
//	    └→ moving → finishing → draining → parting → ending → over      all goes well
//	any but the last two → aborting ──────────────→ ending → over       nothing is the successor's
//	moving … parting     → returning → aborting                         something is, and it gives it back
//	moving … returning   → fencing ───────────────→ ending → over       or cannot
//	any but the last two, when the successor has died → ending → over
type step string

const (
	greeting  step = "greeting"  // waits for HELLO
	agreeing  step = "agreeing"  // waits for the answer to a dry run
	moving    step = "moving"    // batches are moving; we accept
	finishing step = "finishing" // we do not accept any more; DONE waits for an answer
	draining  step = "draining"  // the successor serves; stragglers follow; copies are kept
	parting   step = "parting"   // BYE was said, and waits for an answer
	returning step = "returning" // the successor gives back what it has
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
// all it had. After that, what was the successor's is its own again when the successor has given it back, or has certainly ended.
//
// For a session it goes through Intend, Lend, Freeze, then LetGo or Thaw. A socket that was lent has a copy here, also when its session
// has ended or was given, until Release, Unlend or Recall names it: each copy is named once, at the latest before End. A session that
// comes back goes through Borrow, if it was accepted there, then Take and Own, and counts as lent from there.
type Predecessor struct {
	machine
	opt     Options
	step    step
	check   bool
	stopped bool // the process is asked to end

	accepting bool
	theirs    bool // the successor may be serving something: a session, or, since DONE was said, the listeners

	giver    giver    // on the way there
	receiver receiver // on the way back

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

	result     Result // of the way back, with its reason
	reason     string
	silent     bool // the successor has not said why: its end will tell more
	distrusted bool // it does not keep to the rules, or is silent
	heard      bool // its ABORT: from there it accepts no more, and gives back
	returned   bool // all of it
}

// NewPredecessor makes a machine that waits for Begin.
func NewPredecessor(opt Options) *Predecessor {
	p := &Predecessor{opt: opt, accepting: true}
	p.giver, p.receiver = newGiver(&p.machine, opt, "successor"), newReceiver(&p.machine)
	p.giver.intend = true
	return p
}

// Step tells the machine what has happened and returns what to do, in this order. See the package comment for what it relies on.
func (p *Predecessor) Step(in Input) []Output {
	p.out = nil
	switch in := in.(type) {
	case Moved, NotAccepting, Borrowed:
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
		p.giver.lent(in.IDs)
		p.pump()
	case Frozen:
		p.giver.frozen(in)
		p.pump()
	case Gave:
		p.giver.gave(in)
		p.pump()
	case NotBorrowed:
		p.notBorrowed(in)
	case Took:
		p.receiver.took(in)
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
	switch m := m.(type) {
	case *wire.Closed:
		p.closedThere(m.IDs)
	case *wire.Abort:
		p.abortedThere(m)
	case *wire.Hello:
		p.hello(m)
	default:
		switch {
		case p.step == returning, p.step == fencing:
			p.comesBack(m)
		case p.step == aborting, p.died: // the dead are only asked what they ended, gave back, and why
		default:
			p.goOn(m)
		}
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
	p.distrust(fmt.Sprintf("the successor said %v while %s", m.Type(), p.step))
}
