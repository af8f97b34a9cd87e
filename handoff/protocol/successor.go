package protocol

import (
	"fmt"
	"slices"

	"baton/handoff/wire"
)

// stage is how far the successor is.
//
//	hailing → adopting → receiving → promoting → serving → apart
//	   └─────────┴────────────┴──────────┴→ leaving                 the handoff was ended
//	                          └→ promoting → apart                  the predecessor died
type stage string

const (
	hailing   stage = "hailing"   // HELLO was said
	adopting  stage = "adopting"  // listeners are being taken over
	receiving stage = "receiving" // sessions are arriving
	promoting stage = "promoting" // the predecessor does not accept any more; we are about to
	serving   stage = "serving"   // we serve; the predecessor keeps copies and stragglers
	apart     stage = "apart"     // the predecessor is gone
	leaving   stage = "leaving"   // we end
)

// A Successor is the side that gets the sessions.
//
// Its way ends in one of two ways. With an End, after which the process exits without touching a connection: those that were given are
// taken back from it then. Or, once it has begun to serve, with Parted: the predecessor has gone or died, and what is left here is ours.
// In between, once it serves, it goes on serving whatever it hears, until the predecessor ends it. It never acts against the predecessor,
// and takes it for dead only when that is certain and all that it had said has been heard: a session may have been given with its last
// breath.
//
// A socket that was borrowed is held until Own makes its session ours, or Drop names it; none is held after Parted.
type Successor struct {
	stage stage
	out   []Output
	then  func() // continues when the question that is open has been answered with yes
	check bool

	where      map[ID]holding
	offers     map[int]offering // taken, and not given yet
	taking     *wire.Offer      // while Take is being answered
	moved      int
	stragglers int // as the predecessor counted

	parting bool // we said BYE first
	aborted bool // ABORT was said, by either side, when we served already

	cut  bool   // nothing more comes from the channel
	died bool   // the predecessor has certainly ended
	how  string // it has
}

// holding is what we hold of a session that was lent.
type holding uint8

const (
	nothing  holding = iota
	borrowed         // its socket
	taken            // its socket and state
	owned            // it is ours, and the predecessor has a copy of its socket
)

// An offering is what we have answered to an offer.
type offering struct {
	frozenAt int64 // monotonic ns
	ids      []ID  // that were taken
}

// NewSuccessor makes a machine that waits for Begin.
func NewSuccessor() *Successor {
	return &Successor{stage: hailing, where: map[ID]holding{}, offers: map[int]offering{}}
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
	case Borrowed, Moved:
		s.answered()
	case NotAdopted:
		s.refuse(in.Reason)
	case NotBorrowed:
		s.refuse(in.Reason)
	case MoveRefused:
		s.refuse("cannot go on: " + in.Reason)
	case Took:
		s.took(in)
	case Promoted:
		s.promoted(in)
	case WentRound:
		s.say(&wire.Beat{N: in.N})
	case Opened: // accepted here: nobody else has a copy of these
	case Ended:
		s.ended(in.IDs)
	case Expired:
		if in.Timer == AnswerTimer && s.stage == hailing {
			s.refuse("the predecessor did not answer in time")
		}
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

func (s *Successor) do(o ...Output) { s.out = append(s.out, o...) }

func (s *Successor) say(m wire.Message) { s.do(Send{m}) }

// ask asks a question and says what to do when the answer is yes. It has to be the last thing done in a step.
func (s *Successor) ask(question Output, then func()) {
	s.then = then
	s.do(question)
}

func (s *Successor) answered() {
	if then := s.then; then != nil {
		s.then = nil
		then()
	}
}

// received: what does not fit ends the handoff.
func (s *Successor) received(m wire.Message) {
	arriving := s.stage == receiving || s.stage == serving
	switch m := m.(type) {
	case *wire.Closed:
		s.closedThere(m.IDs)
		return
	case *wire.Abort:
		s.abortedThere(m)
		return
	case *wire.Welcome:
		if s.stage == hailing {
			s.stage, s.check = adopting, m.Check
			s.do(Adopt{m})
			return
		}
	case *wire.Lend:
		if arriving && s.all(m.IDs, nothing) {
			s.ask(Borrow{m}, func() { s.put(borrowed, m.IDs) })
			return
		}
	case *wire.Offer:
		if _, again := s.offers[m.Seq]; arriving && !again && s.all(m.IDs, borrowed) {
			s.taking = m
			s.do(Take{m})
			return
		}
	case *wire.Give:
		if o, ok := s.offers[m.Seq]; ok && arriving && slices.Equal(m.IDs, o.ids) && s.all(m.IDs, taken) {
			s.given(m, o)
			return
		}
	case *wire.Done:
		if s.stage == receiving {
			s.done(m)
			return
		}
	case *wire.Beat:
		if s.stage == serving {
			s.do(GoRound{m.N})
			return
		}
	case *wire.Bye:
		if s.stage == serving {
			s.bye()
			return
		}
	}
	s.refuse(fmt.Sprintf("the predecessor said %v, which does not fit while %s", m.Type(), s.stage))
}

func (s *Successor) put(h holding, ids []ID) {
	for _, id := range ids {
		if s.where[id] = h; h == nothing {
			delete(s.where, id)
		}
	}
}

// all reports whether we hold just this of all of these sessions.
func (s *Successor) all(ids []ID, h holding) bool {
	return !slices.ContainsFunc(ids, func(id ID) bool { return s.where[id] != h })
}

func (s *Successor) adopted() {
	if s.check {
		s.say(&wire.Abort{Code: wire.Checked, Reason: "an upgrade would work"})
		s.leave(ResultChecked, "an upgrade would work")
		return
	}
	s.stage = receiving
}

func (s *Successor) took(in Took) {
	offer := s.taking
	s.taking = nil
	s.put(taken, in.IDs)
	if len(in.IDs) > 0 { // else nothing of it is going to be given
		s.offers[offer.Seq] = offering{offer.FrozenAt, in.IDs}
	}
	s.say(&wire.Take{Seq: offer.Seq, IDs: in.IDs, Refused: in.Refused})
}

func (s *Successor) given(m *wire.Give, o offering) {
	delete(s.offers, m.Seq)
	s.put(owned, m.IDs)
	s.moved += len(m.IDs)
	s.do(Own{m, o.frozenAt})
}

func (s *Successor) done(m *wire.Done) {
	if m.Moved != s.moved {
		s.do(Report{fmt.Sprintf("%d sessions came, the predecessor says %d", s.moved, m.Moved)})
	}
	s.stragglers = m.Stragglers
	s.promote(Move{To: Serving, Why: "the predecessor does not accept any more", Rescue: s.died})
}

func (s *Successor) promote(m Move) {
	s.stage = promoting
	s.ask(m, func() { s.do(Promote{}) })
}

func (s *Successor) promoted(in Promoted) {
	s.stage = serving
	s.do(Accept{})
	if s.died && s.cut {
		s.beAlone()
		return
	}
	s.say(&wire.Done{Moved: s.moved, Stragglers: s.stragglers, Pause: in.Pause})
}
