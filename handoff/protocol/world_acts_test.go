package protocol

import (
	"slices"

	"baton/fsm"
	"baton/handoff/wire"

	"github.com/fxamacker/cbor/v2"
)

// What the machines have done, in the model: sockets, sessions and the journal of each side. Whatever must not be done is called foul.

func (w *world) performP(out Output) []Input {
	if answers, done := w.performBoth(&w.p, out); done {
		return answers
	}
	switch out := out.(type) {
	case Borrow:
		known := slices.ContainsFunc(out.Lend.IDs, func(id ID) bool { return w.sessions[id] == nil || w.sessions[id].p != absent })
		if w.noRoom || w.liar && known {
			return []Input{NotBorrowed{"too many open files"}}
		}
		for _, s := range w.find(out.Lend.IDs, absent) {
			s.p, s.copied = pBorrowed, true
			if s.lost == "with S" {
				s.lost = ""
			}
		}
		return []Input{Borrowed{}}
	case Take:
		return []Input{w.takeBack(out.Offer)}
	case Own:
		for _, data := range out.Give.Lates {
			var late []uint64
			cbor.Unmarshal(data, &late)
			w.sessions[ID(late[0])].pPos += int(late[1])
		}
		for _, s := range w.find(out.Give.IDs, pTaken) {
			if s.p = ours; s.pPos != s.pos && !w.liar {
				w.foul(4, "P owns %d at %d, its client is at %d", s.id.N(), s.pPos, s.pos)
			}
		}
	case Drop:
		for _, s := range w.find(out.IDs, pBorrowed, pTaken) {
			w.dropCopy(s)
			s.p = absent
		}
	case Greet:
		if w.unfit {
			return []Input{Unfit{"it lacks protocol ping"}}
		}
		w.weighed = true
		return []Input{Greeted{&wire.Welcome{Version: 1}, w.where(func(s *sess) bool { return s.p == ours })}}
	case Intend:
		w.journal = append(w.journal, out)
	case Lend:
		return w.lend(out)
	case Freeze:
		return []Input{w.freeze(out.IDs)}
	case Thaw:
		for _, s := range w.find(out.IDs, frozen) {
			s.p, s.pPos, s.late = ours, s.pPos+s.late, 0
		}
	case LetGo:
		var gave Gave
		if w.let = true; w.p.toldDeath {
			w.foul(5, "P gives%s to one that it knows to be dead", list(out.IDs))
		}
		for _, s := range w.find(out.IDs, frozen) {
			if s.p = moved; s.late > 0 {
				data, _ := cbor.Marshal([]uint64{uint64(s.id), uint64(s.late)})
				gave.Lates = append(gave.Lates, data)
			}
		}
		return []Input{gave}
	case Detach:
		w.find(out.IDs, moved)
	case Release:
		if len(out.IDs) == 0 {
			w.foul(0, "nothing is released")
		}
		for _, s := range w.find(out.IDs, moved, closed) {
			if w.dropCopy(s); !w.liar && !s.ended && !w.saidBye {
				w.foul(4, "the copy of %d is dropped, and S may still die", s.id.N())
			}
			if !w.liar && w.heard(&w.s) && slices.ContainsFunc(w.s.mail, func(m mail) bool { return slices.Contains(m.lent, s.id) }) {
				w.foul(4, "the socket of %d is closed while it is on its way", s.id.N())
			}
		}
	case Unlend:
		w.onlyWithoutS("unlend")
		for _, s := range w.find(out.IDs, ours, closed) {
			w.dropCopy(s)
		}
	case StopAccepting:
		w.p.accepting = false
		var answers []Input
		w.p.posted = slices.DeleteFunc(w.p.posted, func(in Input) bool {
			answers = append(answers, in)
			return true
		})
		return append(answers, NotAccepting{})
	case Handed:
		w.handed = true
	case Finish:
		for _, s := range w.find(out.IDs, ours, closed) {
			s.finishing = true
		}
	case Fence:
		if w.p.toldDeath {
			w.foul(0, "P fences S, and knows that it has ended")
		}
		if !w.liar && !w.lied && !w.impatient && !w.cutOff {
			w.foul(5, "a successor that answers is fenced: %s", out.Reason)
		}
		w.fenced = true
	case Recall:
		if w.onlyWithoutS("recall"); w.saidBack && !w.liar {
			w.foul(5, "P recalls%s, and had said that it has all", list(out.IDs))
		}
		for _, s := range w.find(out.IDs, moved, pBorrowed, pTaken) {
			w.dropCopy(s)
			if s.told {
				w.foul(4, "session %d is called lost, and S had said that it has ended", s.id.N())
			}
			if s.sentBack && !w.liar && !w.lied {
				w.foul(4, "P recalls session %d, which was given back to it", s.id.N())
			}
			s.p, s.lost = closed, "recalled"
		}
	default:
		w.foul(0, "P cannot do %T", out)
	}
	return nil
}

// find returns the sessions that are something of these for the predecessor, and calls it foul if one is not.
func (w *world) find(ids []ID, views ...pView) (found []*sess) {
	for _, id := range ids {
		s := w.sessions[id]
		if s == nil {
			w.foul(0, "%s, and there is no session %d", describe(w.doing), id.N())
			continue
		}
		if !slices.Contains(views, s.p) {
			w.foul(1, "%s, and P %s session %d", describe(w.doing), s.p, id.N())
			continue
		}
		found = append(found, s)
	}
	return found
}

func (w *world) onlyWithoutS(what string) {
	if w.s.alive {
		w.foul(3, "%s while the successor lives", what)
	}
}

func (w *world) dropCopy(s *sess) {
	if !s.copied {
		w.foul(0, "P has no copy of %d", s.id.N())
	}
	s.copied = false
}

func (w *world) lend(l Lend) []Input {
	if !w.intended[l.Batch] {
		w.foul(2, "batch %d is lent, and the journal does not know", l.Batch)
	}
	if w.pm.step != moving && w.pm.step != draining {
		w.foul(5, "batch %d is lent while P is %s", l.Batch, w.pm.step)
	}
	m := &wire.Lend{Batch: l.Batch}
	for _, id := range l.IDs {
		if s := w.sessions[id]; s.p == ours {
			s.copied = true
			m.IDs, m.Cookies, m.Slots = append(m.IDs, id), append(m.Cookies, uint64(id)), append(m.Slots, -1)
		}
	}
	if len(m.IDs) > 0 {
		w.log("    (LEND" + describeMessage(m) + ")")
		w.send(&w.p, mail{m, m.IDs})
	}
	return []Input{Lent{l.Batch, m.IDs}}
}

func (w *world) freeze(ids []ID) (f Frozen) {
	for _, id := range ids {
		switch s := w.sessions[id]; {
		case s.p == closed:
		case s.p != ours:
			w.foul(1, "P freezes session %d, which is not its own", id.N())
		case s.busy || s.stuck:
			f.Busy = append(f.Busy, id)
		case w.unsavable[id]:
			if f.Failed == nil {
				f.Failed = map[ID]string{}
			}
			f.Failed[id] = "its handler cannot be saved"
		default:
			s.p, s.late = frozen, 0
			data, _ := cbor.Marshal(s.pPos)
			f.IDs, f.States = append(f.IDs, id), append(f.States, data)
		}
	}
	return f
}

// takeBack is P's Take.
func (w *world) takeBack(o *wire.Offer) (took Took) {
	for i, id := range o.IDs {
		s := w.sessions[id]
		if s == nil || w.refuse[id] || s.p != moved && s.p != pBorrowed { // nil: a lie, of which not even the socket could be taken
			took.Refused = append(took.Refused, wire.Refusal{ID: id, Reason: "it is not on loan, or cannot be read"})
			continue
		}
		s.p = pTaken
		cbor.Unmarshal(o.States[i], &s.pPos)
		took.IDs = append(took.IDs, id)
	}
	return took
}

// performBack is what S does on the way back.
func (w *world) performBack(out Output) (answers []Input, done bool) {
	switch out := out.(type) {
	case Lend:
		m := &wire.Lend{Batch: out.Batch}
		for _, id := range out.IDs {
			if s := w.sessions[id]; s.s == owned {
				m.IDs, m.Cookies, m.Slots = append(m.IDs, id), append(m.Cookies, uint64(id)), append(m.Slots, -1)
			}
		}
		if len(m.IDs) > 0 {
			w.send(&w.s, mail{m, m.IDs})
		}
		return []Input{Lent{out.Batch, m.IDs}}, true
	case Freeze:
		var f Frozen
		for _, id := range out.IDs {
			switch s := w.sessions[id]; {
			case s.s == nothing && s.ended:
			case s.s != owned:
				w.foul(1, "S freezes session %d, which is not its own", id.N())
			case s.busy || s.stuck:
				f.Busy = append(f.Busy, id)
			case w.unsavable[id]:
				if f.Failed == nil {
					f.Failed = map[ID]string{}
				}
				f.Failed[id] = "its handler cannot be saved"
			default:
				s.s, s.late, s.lentBack = sFrozen, 0, true
				data, _ := cbor.Marshal(s.sPos)
				f.IDs, f.States = append(f.IDs, id), append(f.States, data)
			}
		}
		return []Input{f}, true
	case Thaw:
		for _, id := range out.IDs {
			w.hold(id, sFrozen, owned)
			s := w.sessions[id]
			s.sPos, s.late = s.sPos+s.late, 0
		}
	case LetGo:
		var gave Gave
		for _, id := range out.IDs {
			w.hold(id, sFrozen, sGone)
			if s := w.sessions[id]; s.late > 0 {
				data, _ := cbor.Marshal([]uint64{uint64(s.id), uint64(s.late)})
				gave.Lates = append(gave.Lates, data)
			}
		}
		return []Input{gave}, true
	case Detach:
	case Unlend:
		if w.p.alive {
			w.foul(3, "S unlends%s, and P lives", list(out.IDs))
		}
		for _, id := range out.IDs {
			w.sessions[id].lentBack = false
		}
	case StopAccepting:
		w.s.accepting = false
		var answers []Input
		w.s.posted = slices.DeleteFunc(w.s.posted, func(in Input) bool {
			_, opened := in.(Opened)
			_, ended := in.(Ended)
			if opened || ended {
				answers = append(answers, in)
			}
			return opened || ended
		})
		return append(answers, NotAccepting{}), true
	case Finish:
		for _, id := range out.IDs {
			w.sessions[id].finishing = true
		}
	case Recall:
		if w.p.alive {
			w.foul(3, "S recalls%s from a predecessor that lives", list(out.IDs))
		}
		for _, id := range out.IDs {
			w.hold(id, sGone, owned)
			s := w.sessions[id]
			s.lentBack = false
			if s.sPos, s.lost = s.pos, ""; s.ended {
				s.s = nothing
			}
		}
	default:
		return nil, false
	}
	return nil, true
}

func (w *world) performS(out Output) []Input {
	if answers, done := w.performBoth(&w.s, out); done {
		return answers
	}
	if answers, done := w.performBack(out); done {
		return answers
	}
	switch out := out.(type) {
	case Greeting:
		w.send(&w.s, mail{m: &wire.Hello{Versions: []uint8{1}}})
	case Adopt:
		if w.noAdopt {
			return []Input{NotAdopted{"port 7001 is in use"}}
		}
		return []Input{Adopted{}}
	case Borrow:
		if w.noBorrow {
			return []Input{NotBorrowed{"too many open files"}}
		}
		for _, id := range out.Lend.IDs {
			w.hold(id, nothing, borrowed)
		}
		return []Input{Borrowed{}}
	case Take:
		var took Took
		for i, id := range out.Offer.IDs {
			if w.refuse[id] || w.sessions[id].s == nothing {
				took.Refused = append(took.Refused, wire.Refusal{ID: id, Reason: "state cannot be read"})
				continue
			}
			w.hold(id, borrowed, taken)
			cbor.Unmarshal(out.Offer.States[i], &w.sessions[id].sPos)
			took.IDs = append(took.IDs, id)
		}
		return []Input{took}
	case Own:
		for _, data := range out.Give.Lates {
			var late []uint64
			cbor.Unmarshal(data, &late)
			w.sessions[ID(late[0])].sPos += int(late[1])
		}
		for _, id := range out.Give.IDs {
			w.hold(id, taken, owned)
			if s := w.sessions[id]; s.sPos != s.pos && !w.liar {
				w.foul(4, "S owns %d at %d, its client is at %d", id.N(), s.sPos, s.pos)
			}
		}
	case Drop:
		for _, id := range out.IDs {
			s := w.sessions[id]
			if s.s != borrowed && s.s != taken {
				w.foul(1, "S drops %d, which is not on loan", id.N())
			}
			s.s = nothing
			switch {
			case s.ended || w.liar:
			case w.s.toldDeath:
				w.foul(4, "S drops %d, and P, whose it was, is dead", id.N())
			case !w.saidBye:
				w.foul(4, "S drops %d, and P may still die", id.N())
			case !w.p.alive:
				s.lost = "dropped after the predecessor's end"
			}
		}
	case Rescue:
		if w.p.alive {
			w.foul(3, "S rescues%s from a predecessor that lives", list(out.IDs))
		}
		for _, id := range out.IDs {
			s := w.sessions[id]
			if s.s != borrowed && s.s != taken {
				w.foul(1, "S rescues %d, which is not on loan", id.N())
			}
			if s.sent && !s.ended && !w.liar {
				w.foul(4, "S rescues %d, which was given to it", id.N())
			}
			s.lost = ""
			if s.s = owned; s.sPos != s.pos { // the slate would have it, unless the predecessor died in mid-turn
				s.sPos = s.pos
			}
			if s.ended {
				s.s = nothing
			}
		}
	case Promote:
		if w.s.state != fsm.Serving {
			w.foul(2, "S is promoted in %s", w.s.state)
		}
		return []Input{Promoted{}}
	case GoRound:
		w.s.posted = append(w.s.posted, WentRound(out))
	case Parted:
		if w.s.parted = true; w.p.alive && !w.saidBye && !w.liar {
			w.foul(3, "S takes itself to be alone, and P lives")
		}
		if held := w.where(func(s *sess) bool { return s.s == borrowed || s.s == taken }); len(held) > 0 {
			w.foul(0, "S still holds%s", list(held))
		}
		if lent := w.where(func(s *sess) bool { return s.s == owned && s.lentBack }); len(lent) > 0 && !w.p.alive {
			w.foul(0, "S takes%s to be on loan, and P is dead", list(lent))
		}
	default:
		w.foul(0, "S cannot do %T", out)
	}
	return nil
}

func (w *world) hold(id ID, from, to holding) {
	s := w.sessions[id]
	if s.s != from {
		w.foul(1, "%s, and S %s session %d", describe(w.doing), heldAs[s.s], id.N())
	}
	s.s = to
}
