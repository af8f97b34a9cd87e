package protocol

import (
	"fmt"

	"baton/handoff/wire"
)

// stage is how far the successor is.
//
//	hailing → adopting → receiving → promoting → serving → apart
//	   └─────────┴→ leaving    └──────────┴──────────┴→ returning → leaving     the handoff was ended
//	                           └→ promoting → apart ←───────┘                   the predecessor died
type stage string

const (
	hailing    stage = "hailing"   // HELLO was said
	adopting   stage = "adopting"  // listeners are being taken over
	receiving  stage = "receiving" // sessions are arriving
	promoting  stage = "promoting" // the predecessor does not accept any more; we are about to
	serving    stage = "serving"   // we serve; the predecessor keeps copies and stragglers
	turning    stage = "turning"   // the handoff was ended: we accept no more, and wait until the predecessor knows
	givingBack stage = "returning" // it knows, and gets back what it gave, and what we accepted
	apart      stage = "apart"     // the predecessor is gone
	leaving    stage = "leaving"   // we end
)

// A Successor is the side that gets the sessions.
//
// Its way ends in one of two ways. With an End, after which the process exits without touching a connection: what it had served it has
// given back, in successor_returning.go. Or, once it has begun to serve, with Parted: the predecessor has gone or died, and what is left
// here is ours. It never acts against the predecessor, and takes it for dead only when that is certain and all that it had said has been
// heard: a session may have been given with its last breath.
//
// A socket that was borrowed is held until Own makes its session ours, or Drop names it; none is held after Parted.
type Successor struct {
	machine
	stage stage
	check bool

	receiver   receiver // on the way there
	giver      giver    // on the way back
	stragglers int      // as the predecessor counted

	promised bool // DONE was heard: the listeners are ours, or were about to be
	served   bool // our process is, or was, in Serving
	accepts  bool
	accepted map[ID]bool // here, so that nobody else has a copy

	parting  bool   // we said BYE first
	solo     bool   // nobody but us is left, or has a part in what we do
	heard    bool   // the predecessor's ABORT
	gaveBack bool   // everything, and said so
	hurried  bool   // sessions that do not come to rest are told to end
	reason   string // the handoff was ended for

	cut  bool   // nothing more comes from the channel
	died bool   // the predecessor has certainly ended
	how  string // it has
}

// NewSuccessor makes a machine that waits for Begin. Of the options, the way back has need.
func NewSuccessor(opt Options) *Successor {
	s := &Successor{stage: hailing, accepted: map[ID]bool{}}
	s.receiver, s.giver = newReceiver(&s.machine), newGiver(&s.machine, opt, "predecessor")
	s.giver.patient = true
	return s
}

// Step tells the machine what has happened and returns what to do, in this order. See the package comment for what it relies on.
func (s *Successor) Step(in Input) []Output {
	s.out = nil
	if s.stage == apart || s.stage == leaving {
		return nil
	}
	switch in := in.(type) {
	case Begin:
		s.do(Greeting{}, SetTimer{AnswerTimer})
	case Received:
		s.received(in.Message)
	case Adopted:
		s.adopted()
	case Borrowed, Moved, NotAccepting:
		s.answered()
	case NotAdopted:
		s.refuse(in.Reason)
	case NotBorrowed:
		s.receiver.notBorrowed()
		s.refuse(in.Reason)
	case MoveRefused:
		s.moveRefused(in.Reason)
	case Took:
		s.receiver.took(in)
	case Promoted:
		s.promoted(in)
	case Lent:
		s.giver.lent(in.IDs)
		s.pump()
	case Frozen:
		s.frozen(in)
	case Gave:
		s.giver.gave(in)
		s.pump()
	case WentRound:
		s.say(&wire.Beat{N: in.N})
	case Opened:
		s.opened(in.IDs)
	case Ended:
		s.ended(in.IDs)
	case Expired:
		s.expired(in.Timer)
	case Part, Stop:
		s.part()
	case Broken:
		s.cut = true
		s.broken(in.Reason)
	case PeerDied:
		s.died, s.how = true, in.How
		s.alone()
	default:
		panic(fmt.Sprintf("protocol: successor cannot take %T", in))
	}
	return s.out
}

func (s *Successor) expired(t Timer) {
	switch {
	case t == AnswerTimer && s.stage == hailing:
		s.refuse("the predecessor did not answer in time")
	case t == AnswerTimer && s.stage == turning && !s.hasAnything(): // nothing is lost if the predecessor has to find out
		s.leave(ResultGaveUp, s.reason)
	case s.stage != givingBack:
	case t == RetryTimer:
		s.giver.tryAgain()
		s.pump()
	case t == ReturnTimer:
		s.hurry()
	}
}

func (s *Successor) moveRefused(reason string) {
	if s.stage == turning || s.stage == givingBack { // the way back and out is not to be closed by anybody
		s.do(Report{"going on, though the state could not be changed: " + reason})
		s.answered()
		return
	}
	s.then = nil
	s.refuse("cannot go on: " + reason)
}

// received: what does not fit ends the handoff.
func (s *Successor) received(m wire.Message) {
	switch m := m.(type) {
	case *wire.Closed:
		s.receiver.closedThere(m.IDs)
		return
	case *wire.Abort:
		s.abortedThere(m)
		return
	}
	switch {
	case s.stage == turning:
		s.late(m)
	case s.stage == givingBack:
		s.goBackOn(m)
	case !s.goOn(m):
		s.refuse(fmt.Sprintf("the predecessor said %v, which does not fit while %s", m.Type(), s.stage))
	}
}

// goOn hears what makes a handoff go on, and reports whether it fits.
func (s *Successor) goOn(m wire.Message) bool {
	switch m := m.(type) {
	case *wire.Welcome:
		if s.stage == hailing {
			s.stage, s.check = adopting, m.Check
			s.do(Adopt{m})
			return true
		}
	case *wire.Done:
		if s.stage == receiving {
			s.done(m)
			return true
		}
	case *wire.Beat:
		if s.stage == serving {
			s.do(GoRound{m.N})
			return true
		}
	case *wire.Bye:
		if s.stage == serving {
			s.bye()
			return true
		}
	default:
		return (s.stage == receiving || s.stage == serving) && s.receiver.received(m)
	}
	return false
}

func (s *Successor) adopted() {
	if s.check {
		s.say(&wire.Abort{Code: wire.Checked, Reason: "an upgrade would work"})
		s.leave(ResultChecked, "an upgrade would work")
		return
	}
	s.stage = receiving
}

func (s *Successor) done(m *wire.Done) {
	if m.Moved != s.receiver.moved {
		s.do(Report{fmt.Sprintf("%d sessions came, the predecessor says %d", s.receiver.moved, m.Moved)})
	}
	s.stragglers, s.promised = m.Stragglers, true
	s.promote(Move{To: Serving, Why: "the predecessor does not accept any more", Rescue: s.died})
}

func (s *Successor) promote(m Move) {
	s.stage = promoting
	s.ask(m, func() { s.do(Promote{}) })
}

func (s *Successor) promoted(in Promoted) {
	s.stage, s.served, s.accepts = serving, true, true
	s.do(Accept{})
	if s.solo || s.died && s.cut {
		s.beAlone()
		return
	}
	s.say(&wire.Done{Moved: s.receiver.moved, Stragglers: s.stragglers, Pause: in.Pause})
}

// opened: accepted here.
func (s *Successor) opened(ids []ID) {
	for _, id := range ids {
		s.accepted[id] = true
	}
}
