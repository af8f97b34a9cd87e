package protocol

import (
	"testing"

	"baton/fsm"
	"baton/handoff/wire"
	"baton/internal/session"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"
)

// drawMessage makes a message that the other side might send if it knew the format and nothing else.
func drawMessage(t *rapid.T) wire.Message {
	n := func(label string) int { return rapid.IntRange(0, 3).Draw(t, label) }
	ids := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) ID {
		return session.MakeID(7, rapid.Uint64Range(1, 5).Draw(t, "n"))
	}), 0, 3, rapid.ID[ID]).Draw(t, "ids")
	switch rapid.IntRange(1, 11).Draw(t, "type") {
	case 1:
		return &wire.Hello{}
	case 2:
		return &wire.Welcome{Check: n("check") == 0}
	case 3:
		return &wire.Lend{Batch: n("batch"), IDs: ids, Cookies: make([]uint64, len(ids)), Slots: make([]int, len(ids))}
	case 4:
		return &wire.Offer{Seq: n("seq"), IDs: ids, States: make([]cbor.RawMessage, len(ids))}
	case 5:
		if len(ids) > 1 && n("refused") == 0 {
			return &wire.Take{Seq: n("seq"), IDs: ids[1:], Refused: []wire.Refusal{{ID: ids[0]}}}
		}
		return &wire.Take{Seq: n("seq"), IDs: ids}
	case 6:
		return &wire.Give{Seq: n("seq"), IDs: ids}
	case 7:
		return &wire.Closed{IDs: ids}
	case 8:
		return &wire.Done{Moved: n("moved")}
	case 9:
		return &wire.Bye{}
	case 10:
		return &wire.Beat{N: n("beat")}
	}
	return &wire.Abort{Code: wire.Code(n("code"))}
}

// TestSuccessorThatLies: whatever a successor says, and when, the predecessor does nothing that it must not, does not panic, and serves
// or exits once that successor has ended.
func TestSuccessorThatLies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newSimulation(t)
		w.liar = true
		for range rapid.IntRange(0, 60).Draw(t, "events") {
			list := w.choices()
			if w.p.begun && w.p.end == nil && rapid.IntRange(0, 4).Draw(t, "lie") == 0 {
				list = []event{{"a lie", func(*world) { w.put(&w.p, Received{drawMessage(t)}) }}}
				w.offers = -1000 // as if all were answered
			}
			if len(list) > 0 {
				w.happen(list[w.pick("event", len(list))])
			}
			if len(w.s.mail) > 0 && rapid.Bool().Draw(t, "heard") {
				w.s.mail = nil // it makes of it what it likes
			}
		}
		w.s.mail = nil
		w.log("S is killed")
		w.die(&w.s)
		w.p.stopped = false
		for n := 0; w.p.alive && w.p.end == nil; n++ {
			if list := w.events(); len(list) > 0 {
				w.happen(list[0])
			} else if !w.passTime() || n > 2000 {
				t.Fatalf("P does not come to an end: it is %s", w.pm.step)
			}
		}
	})
}

// TestPredecessorThatLies: whatever a predecessor says, the successor touches nothing that was not given, does not panic, and serves or
// leaves once that predecessor has ended.
func TestPredecessorThatLies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &simulation{world: newWorld(Options{}, 5), t: t}
		w.liar = true
		w.log = func(line string) { t.Log(line) }
		w.s.begun = true
		w.put(&w.s, Begin{})
		if rapid.IntRange(0, 3).Draw(t, "welcome") > 0 {
			w.put(&w.s, Received{&wire.Welcome{}})
		}
		for range rapid.IntRange(0, 60).Draw(t, "messages") {
			w.put(&w.s, Received{drawMessage(t)})
			for len(w.s.posted) > 0 {
				in := w.s.posted[0]
				w.s.posted = w.s.posted[1:]
				w.put(&w.s, in)
			}
			if err := w.err(); err != nil {
				t.Fatal(err)
			}
		}
		w.die(&w.p)
		w.put(&w.s, Broken{"EOF"})
		w.put(&w.s, PeerDied{"P has ended"})
		if w.s.end == nil && !w.s.parted {
			t.Fatalf("S does not come to an end: it is %s", w.sm.stage)
		}
		if w.s.parted && (w.s.state != fsm.Serving || !w.s.accepting) {
			t.Fatalf("S is alone, in %s, accepting %v", w.s.state, w.s.accepting)
		}
		if err := w.err(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLastMoveIsNotRefused: the table of states has it open, but the machine does not rely on that.
func TestLastMoveIsNotRefused(t *testing.T) {
	p := NewPredecessor(DefaultOptions)
	p.Step(Begin{})
	p.Step(PeerDied{How: "it was killed"})
	outs := p.Step(MoveRefused{Reason: "the disk is full"})
	if len(outs) != 2 || outs[1] != (End{ResultRolledBack, "it was killed"}) {
		t.Errorf("did %v, want a report and the end", outs)
	}
	if outs := p.Step(Stop{}); outs != nil {
		t.Errorf("after the end: %v", outs)
	}
}

// TestProgrammingErrors: an input that a machine does not have is no message of a peer, but a mistake of ours.
func TestProgrammingErrors(t *testing.T) {
	for name, step := range map[string]func(){
		"predecessor": func() { NewPredecessor(DefaultOptions).Step(Adopted{}) },
		"successor":   func() { NewSuccessor(DefaultOptions).Step(Greeted{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			step()
		}()
	}
}
