package protocol

import (
	"fmt"
	"maps"
	"slices"

	"baton/handoff/wire"

	"github.com/fxamacker/cbor/v2"
)

// What need not happen.

func (w *world) live() (live []*sess) {
	for s := range w.all {
		if !s.ended && s.lost == "" {
			live = append(live, s)
		}
	}
	return live
}

// besides are the things that clients and handlers may do now.
func (w *world) besides() (list []event) {
	for _, s := range w.live() {
		id, n := s.id, s.id.N()
		if x := w.canEnd(s); x != nil && !x.stopped {
			list = append(list,
				event{fmt.Sprintf("%d ends", n), func(w *world) { w.endSession(w.sessions[id]) }},
				event{fmt.Sprintf("%d is served", n), func(w *world) { w.serve(w.sessions[id]) }})
		}
		if s.p == frozen && w.p.alive && !w.p.stopped || s.s == sFrozen && w.s.alive && !w.s.stopped {
			list = append(list, event{fmt.Sprintf("%d is written to", n), func(w *world) { w.push(w.sessions[id]) }})
		}
	}
	for _, x := range w.sides() {
		if x.accepting && !x.stopped && len(w.sessions) < 9 {
			list = append(list, x.on("a session opens in "+x.name, (*world).open))
		}
	}
	return list
}

// runsOut makes an event of a timer.
func (x *side) runsOut(t Timer) event {
	return x.on(fmt.Sprintf("timer %s of %s runs out", t, x.name), func(w *world, x *side) { w.fire(x, t) })
}

// faults are the things that may go wrong now; some only show later.
func (w *world) faults() (list []event) {
	for _, x := range w.sides() {
		if x.alive && x.begun {
			list = append(list, w.faultsOf(x)...)
		}
	}
	add := func(name string, do func(w *world)) { list = append(list, event{"FAULT " + name, do}) }
	if w.p.begun && w.s.alive && !w.s.begun && !w.s.stopped {
		add("S dies before it begins", func(w *world) { w.die(&w.s) })
		add("S hangs before it begins", func(w *world) { w.s.stopped = true })
	}
	if w.s.alive && w.s.begun && !w.s.stopped {
		add("S is asked to part", func(w *world) { w.s.asked = true; w.put(&w.s, Part{}) })
	}
	add("the channel breaks", func(w *world) { w.cutOff = true })
	add("the journal is full", func(w *world) { w.noJournal = true })
	if len(w.journal) > 1 {
		add("the journal is slow to follow", func(w *world) { w.journal[0], w.journal[1] = w.journal[1], w.journal[0] })
	}
	for _, to := range []State{Transferring, Draining, Serving} {
		add("no move to "+string(to), func(w *world) { w.refuseMoves[to] = true })
	}
	add("S is unfit", func(w *world) { w.unfit = true })
	add("S cannot adopt", func(w *world) { w.noAdopt = true })
	add("S cannot borrow", func(w *world) { w.noBorrow = true })
	add("P cannot borrow", func(w *world) { w.noRoom = true })
	for _, s := range w.live() {
		id, n := s.id, s.id.N()
		add(fmt.Sprintf("%d is refused", n), func(w *world) { w.refuse[id] = true })
		add(fmt.Sprintf("%d cannot be saved", n), func(w *world) { w.unsavable[id] = true })
		if s.p == ours || s.p == frozen || s.s == owned {
			add(fmt.Sprintf("%d never comes to rest", n), func(w *world) { w.sessions[id].stuck = true })
		}
	}
	return list
}

func (w *world) faultsOf(x *side) (list []event) {
	add := func(what string, do func(w *world, x *side)) { list = append(list, x.on("FAULT "+x.name+what, do)) }
	add(" is killed", (*world).die)
	for after := range 4 {
		add(fmt.Sprintf(" is killed after %d more acts", after), func(w *world, x *side) { x.actsLeft = after })
	}
	if x.stopped {
		return list
	}
	add(" is stopped", func(w *world, x *side) { x.stopped = true })
	add(" is asked to stop", func(w *world, x *side) { x.asked = true; w.put(x, Stop{}) })
	for _, timer := range []Timer{HelloTimer, BeatTimer, AnswerTimer, TotalTimer, DrainTimer, FinishTimer, ReturnTimer, ExitTimer} {
		if x.timers[timer] {
			list = append(list, x.runsOut(timer))
		}
	}
	return list
}

// lies are what a machine never says, and a peer may. Whoever hears one keeps to the rules all the same, and does not go on with a peer
// like that.
func (w *world) lies() (list []event) {
	if w.lied {
		return nil // who lies twice can have us believe that all has ended, or come back
	}
	if w.p.hears() && w.s.alive && w.pm.hailed && !w.cutOff {
		for _, m := range w.liesToP() {
			list = append(list, w.p.on("LIE to P: "+describe(m), func(w *world, x *side) {
				_, ended := m.(*wire.Closed)
				heedless := ended || w.pm.step == returning && !w.pm.heard // it waits for ABORT
				w.lied = true
				if w.put(x, Received{m}); !heedless && slices.Contains([]step{moving, finishing, draining, parting, returning}, w.pm.step) {
					w.foul(5, "P hears %s, and goes on", describe(m))
				}
			}))
		}
	}
	if w.s.hears() && w.p.alive && w.sm.stage != hailing && !w.cutOff {
		for _, m := range w.liesToS() {
			list = append(list, w.s.on("LIE to S: "+describe(m), func(w *world, x *side) {
				w.lied = true
				if w.put(x, Received{m}); slices.Contains([]stage{receiving, promoting, serving}, w.sm.stage) {
					w.foul(5, "S hears %s, and goes on", describe(m))
				}
			}))
		}
	}
	return list
}

func (x *side) hears() bool {
	return x.alive && x.begun && x.end == nil && !x.stopped && !x.toldBroken && !x.parted
}

func (w *world) liesToP() (list []wire.Message) {
	moves := w.pm.step == moving || w.pm.step == draining
	if moves || w.pm.step == returning && !w.sm.gaveBack {
		list = append(list, &wire.Done{})
	}
	if w.pm.step == moving {
		list = append(list, &wire.Bye{})
	}
	if moves || w.pm.step == returning {
		list = append(list, &wire.Hello{})
		list = append(list, falseAnswers(w.pm.giver.offers)...)
		if len(w.pm.giver.offers) == 0 {
			list = append(list, &wire.Take{Seq: w.pm.giver.seq})
		}
		if id := w.where(func(s *sess) bool { return !s.ended && (s.p == moved || s.p == pBorrowed) }); len(id) > 0 {
			list = append(list, &wire.Give{Seq: 1, IDs: id[:1]}, &wire.Lend{Batch: 1, IDs: id[:1]})
			if w.pm.step == returning && !w.pm.heard {
				state, _ := cbor.Marshal(w.sessions[id[0]].pos)
				list = append(list, &wire.Offer{Seq: 1, IDs: id[:1], States: []cbor.RawMessage{state}})
			}
		}
		if id := w.where(func(s *sess) bool { return s.p == ours && w.pm.giver.sessions.where[s.id] == atHome }); len(id) > 0 && w.pm.step == returning {
			list = append(list, &wire.Lend{Batch: 1, IDs: id[:1]})
		}
		if id := w.where(func(s *sess) bool { return !s.ended && s.p == pTaken }); len(id) > 0 {
			list = append(list, &wire.Closed{IDs: id[:1]})
		}
	}
	return list
}

func (w *world) liesToS() (list []wire.Message) {
	if id := w.where(func(s *sess) bool { return !s.ended && (s.s == borrowed || s.s == taken) }); len(id) > 0 {
		list = append(list, &wire.Give{Seq: 1 + w.sm.receiver.seq, IDs: id[:1]}, &wire.Lend{Batch: 1, IDs: id[:1]})
	}
	for _, seq := range slices.Sorted(maps.Keys(w.sm.receiver.offers)) {
		if o := w.sm.receiver.offers[seq]; len(o.ids) > 1 {
			list = append(list, &wire.Give{Seq: seq, IDs: o.ids[:1]})
		}
		if id := w.where(func(s *sess) bool { return !s.ended && s.s == borrowed }); len(id) > 0 {
			state, _ := cbor.Marshal(w.sessions[id[0]].pos)
			list = append(list, &wire.Offer{Seq: seq, IDs: id[:1], States: []cbor.RawMessage{state}})
		}
	}
	if w.sm.stage == givingBack && !w.sm.gaveBack {
		list = append(list, &wire.Done{})
	}
	return append(list, falseAnswers(w.sm.giver.offers)...)
}

// falseAnswers are TAKEs that do not fit the oldest offer.
func falseAnswers(offers []offer) []wire.Message {
	if len(offers) == 0 {
		return nil
	}
	o := offers[0]
	return []wire.Message{&wire.Take{Seq: o.seq + 1, IDs: o.ids}, &wire.Take{Seq: o.seq, IDs: o.ids[1:]}}
}
