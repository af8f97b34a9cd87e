package large

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"baton/conn"
	"baton/handoff/protocol"
	"baton/handoff/wire"

	"github.com/fxamacker/cbor/v2"
)

// A talk is a whole handoff between both machines of the conversation, in one process. What they ask for is answered at once.
type talk struct {
	sessions []conn.ID
	p, s     party
	messages int64
	handed   bool
	odd      error // the first thing that does not belong to a handoff that goes well
}

// A party is one side: its machine, and what it has not heard yet.
type party struct {
	step func(protocol.Input) []protocol.Output
	mail []protocol.Input
}

// Talk has n sessions move from one machine to the other.
func Talk(n int) (Cost, error) {
	t := &talk{sessions: ids(n)}
	before := heap()
	began := time.Now()
	t.p.step = protocol.NewPredecessor(protocol.DefaultOptions).Step
	t.s.step = protocol.NewSuccessor(protocol.DefaultOptions).Step
	t.work(&t.p, protocol.Begin{})
	t.work(&t.s, protocol.Begin{})
	for t.odd == nil && !t.handed {
		if !t.deliver(&t.p) && !t.deliver(&t.s) {
			t.odd = errors.New("both wait")
		}
	}
	took := time.Since(began)
	each := (heap() - before) / float64(n) // both sides
	runtime.KeepAlive(t)
	return Cost{N: n, Time: float64(took) / float64(n), Heap: each, Steps: t.messages}, t.odd
}

// deliver lets a side hear what came first.
func (t *talk) deliver(to *party) bool {
	if len(to.mail) == 0 {
		return false
	}
	in := to.mail[0]
	to.mail[0] = nil
	to.mail = to.mail[1:]
	t.work(to, in)
	return true
}

func (t *talk) work(side *party, in protocol.Input) {
	for _, out := range side.step(in) {
		if answer := t.perform(side, out); answer != nil {
			t.work(side, answer)
		}
	}
}

// say sends a message to the other side.
func (t *talk) say(from *party, m wire.Message) {
	to := &t.p
	if from == to {
		to = &t.s
	}
	t.messages++
	to.mail = append(to.mail, protocol.Received{Message: m})
}

// perform does what a machine says, and returns the answer.
func (t *talk) perform(side *party, out protocol.Output) protocol.Input {
	switch out := out.(type) {
	case protocol.Send:
		t.say(side, out.Message)
	case protocol.Greeting:
		t.say(side, &wire.Hello{})
	case protocol.Greet:
		return protocol.Greeted{Welcome: &wire.Welcome{Version: 1, Sessions: len(t.sessions)}, Sessions: t.sessions}
	case protocol.Intend:
		side.mail = append(side.mail, protocol.Journaled{Batch: out.Batch})
	case protocol.Lend:
		t.say(side, &wire.Lend{Batch: out.Batch, IDs: out.IDs})
		return protocol.Lent(out)
	case protocol.Freeze:
		return protocol.Frozen{IDs: out.IDs, States: make([]cbor.RawMessage, len(out.IDs))}
	case protocol.Take:
		return protocol.Took{IDs: out.Offer.IDs}
	default:
		return t.performRest(out)
	}
	return nil
}

func (t *talk) performRest(out protocol.Output) protocol.Input {
	switch out.(type) {
	case protocol.Move:
		return protocol.Moved{}
	case protocol.LetGo:
		return protocol.Gave{}
	case protocol.StopAccepting:
		return protocol.NotAccepting{}
	case protocol.Adopt:
		return protocol.Adopted{}
	case protocol.Borrow:
		return protocol.Borrowed{}
	case protocol.Promote:
		return protocol.Promoted{}
	case protocol.Handed:
		t.handed = true
	case protocol.SetTimer, protocol.Own, protocol.Detach, protocol.Accept:
	default:
		t.odd = fmt.Errorf("a handoff that goes well has no %T", out)
	}
	return nil
}
