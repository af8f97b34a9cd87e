package protocol

import (
	"fmt"
	"slices"

	"baton/handoff/wire"
)

// stage is how far the successor is.
//
//	hailing → adopting → receiving → promoting → serving → apart
//	   └─────────┴────────────┴→ leaving, when the handoff is aborted
//	                          └────────┴────────────────→ apart, when the predecessor has died
type stage string

const (
	hailing   stage = "hailing"   // HELLO was said
	adopting  stage = "adopting"  // listeners are being taken over
	receiving stage = "receiving" // sessions are arriving
	promoting stage = "promoting" // the predecessor does not accept any more
	serving   stage = "serving"   // we serve; the predecessor keeps copies and stragglers
	apart     stage = "apart"     // the predecessor is gone
	leaving   stage = "leaving"   // we end
)

// A Successor is the side that gets the sessions.
type Successor struct {
	stage      stage
	out        []Output
	then       func() // continues when the question that is open has been answered with yes
	check      bool
	where      map[ID]holding
	offers     map[int]int64 // answered and not given yet: when they were frozen; monotonic ns
	offer      int           // being taken
	moved      int
	stragglers int  // as the predecessor counted
	parting    bool // we said BYE first
	rescued    bool // the predecessor died before it was done
}

// holding is what we hold of a session.
type holding uint8

const (
	borrowed holding = iota + 1 // its socket
	taken                       // its socket and state
	owned                       // it is ours, and the predecessor has a copy of its socket
)

// NewSuccessor makes a machine, and says HELLO.
func NewSuccessor() *Successor {
	return &Successor{stage: hailing, where: map[ID]holding{}, offers: map[int]int64{}}
}

// Step tells the machine what has happened and returns what to do.
func (s *Successor) Step(in Input) []Output {
	s.out = nil
	switch in := in.(type) {
	case Begin:
		s.do(Greeting{}, SetTimer{AnswerTimer})
	case Received:
		s.received(in.Message)
	case Adopted:
		s.adopted()
	case NotAdopted:
		s.refuse(in.Reason)
	case Borrowed, Moved:
		s.answered()
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
	case Part:
		s.part()
	case Expired:
		s.expired(in.Timer)
	case PeerDied:
		s.alone(in.How)
	case Broken:
		s.broken(in.Reason)
	case Stop:
		s.stop()
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

func (s *Successor) received(m wire.Message) {
	arriving := s.stage == receiving || s.stage == serving
	switch m := m.(type) {
	case *wire.Welcome:
		if s.stage == hailing {
			s.stage, s.check = adopting, m.Check
			s.do(Adopt{m})
			return
		}
	case *wire.Lend:
		if s.stage == receiving {
			s.ask(Borrow{m}, func() { s.put(m.IDs, borrowed) })
			return
		}
	case *wire.Offer:
		if arriving && s.all(m.IDs, borrowed, taken) {
			s.offers[m.Seq] = m.FrozenAt
			s.offer = m.Seq
			s.do(Take{m})
			return
		}
	case *wire.Give:
		if at, ok := s.offers[m.Seq]; ok && arriving && s.all(m.IDs, taken) {
			delete(s.offers, m.Seq)
			s.put(m.IDs, owned)
			s.moved += len(m.IDs)
			s.do(Own{m, at})
			return
		}
	case *wire.Closed:
		s.closedThere(m.IDs)
		return
	case *wire.Done:
		if s.stage == receiving {
			s.done(m)
			return
		}
	case *wire.Beat:
		s.do(GoRound{m.N})
		return
	case *wire.Bye:
		if s.stage == serving {
			s.bye()
			return
		}
	case *wire.Abort:
		s.leave("the predecessor ended the handoff: " + m.Reason)
		return
	}
	if s.stage != leaving && s.stage != apart {
		s.refuse(fmt.Sprintf("the predecessor said %v, which does not fit while %s", m.Type(), s.stage))
	}
}

func (s *Successor) put(ids []ID, h holding) {
	for _, id := range ids {
		s.where[id] = h
	}
}

// all reports whether we hold all of these sessions, in one of these ways.
func (s *Successor) all(ids []ID, ways ...holding) bool {
	return !slices.ContainsFunc(ids, func(id ID) bool { return !slices.Contains(ways, s.where[id]) })
}

func (s *Successor) adopted() {
	if s.check {
		s.say(&wire.Abort{Code: wire.Checked, Reason: "an upgrade would work"})
		s.stage = leaving
		s.do(End{ResultChecked, "an upgrade would work"})
		return
	}
	s.stage = receiving
}

func (s *Successor) took(in Took) {
	s.put(in.IDs, taken)
	s.say(&wire.Take{Seq: s.offer, IDs: in.IDs, Refused: in.Refused})
}

func (s *Successor) done(m *wire.Done) {
	if m.Moved != s.moved {
		s.do(Report{fmt.Sprintf("%d sessions came, the predecessor says %d", s.moved, m.Moved)})
	}
	s.stragglers = m.Stragglers
	s.promote("the predecessor does not accept any more")
}

func (s *Successor) promote(why string) {
	s.stage = promoting
	s.ask(Move{Serving, why}, func() { s.do(Promote{}) })
}

func (s *Successor) promoted(in Promoted) {
	s.do(Accept{})
	if s.rescued {
		s.leaveBehind()
		return
	}
	s.stage = serving
	s.say(&wire.Done{Moved: s.moved, Stragglers: s.stragglers, Pause: in.Pause})
}

// bye: the predecessor drops its copies.
func (s *Successor) bye() {
	if !s.parting {
		s.say(&wire.Bye{})
	}
	s.leaveBehind()
}

// leaveBehind: from here we are alone.
func (s *Successor) leaveBehind() {
	s.dropUngiven()
	s.stage = apart
	s.where, s.offers = map[ID]holding{}, map[int]int64{}
	s.do(Parted{})
}

// dropUngiven drops what is the predecessor's, or was.
func (s *Successor) dropUngiven() {
	var ids []ID
	for _, id := range sortedKeys(s.where) {
		if s.where[id] != owned {
			ids = append(ids, id)
			delete(s.where, id)
		}
	}
	if len(ids) > 0 {
		s.do(Drop{ids})
	}
}

// closedThere: sessions that were lent have ended.
func (s *Successor) closedThere(ids []ID) {
	var ended []ID
	for _, id := range ids {
		if h := s.where[id]; h == borrowed || h == taken {
			delete(s.where, id)
			ended = append(ended, id)
		}
	}
	if len(ended) > 0 {
		s.do(Drop{ended})
	}
}

// ended: sessions of ours have ended. The predecessor's copies would keep their sockets open.
func (s *Successor) ended(ids []ID) {
	var told []ID
	for _, id := range ids {
		if s.where[id] == owned {
			delete(s.where, id)
			told = append(told, id)
		}
	}
	if len(told) > 0 {
		s.say(&wire.Closed{IDs: told})
	}
}

// part ends probation early.
func (s *Successor) part() {
	switch s.stage {
	case serving:
		if !s.parting {
			s.parting = true
			s.say(&wire.Bye{})
		}
	case apart:
		s.do(Parted{})
	default:
		s.refuse("the successor was asked to stop")
	}
}

func (s *Successor) stop() { s.part() }

func (s *Successor) expired(t Timer) {
	if t == AnswerTimer && s.stage == hailing {
		s.refuse("the predecessor did not answer in time")
	}
}

// refuse ends the handoff from our side.
func (s *Successor) refuse(reason string) {
	if s.stage == leaving {
		return
	}
	s.say(&wire.Abort{Code: wire.Refused, Reason: reason})
	s.leave(reason)
}

// leave ends this process. It must not end any connection: none is ours, or we are about to be fenced and they are taken back.
func (s *Successor) leave(reason string) {
	if s.stage == leaving || s.stage == apart {
		return
	}
	s.stage, s.then = leaving, nil
	s.do(End{ResultGaveUp, reason})
}

// broken: the predecessor is dying, or has lost patience and ends us. Silence is not death: we wait for one or the other, unless we have
// nothing to wait for.
func (s *Successor) broken(reason string) {
	if s.stage == hailing || s.stage == adopting {
		s.leave(reason)
	}
}

// alone: the predecessor has certainly ended.
func (s *Successor) alone(how string) {
	switch s.stage {
	case hailing, adopting:
		s.leave(how)
	case receiving:
		s.rescued = true
		s.dropUngiven()
		s.promote(how)
	case promoting:
		s.rescued = true
	case serving:
		s.leaveBehind()
	}
}
