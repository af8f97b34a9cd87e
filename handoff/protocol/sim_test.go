package protocol

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestEverythingThatMayHappen has both machines hand over in a world where whatever may happen does, in any order: messages, timers,
// sessions that open, end, are busy or written to, a journal that is slow or full, refusals, deaths in the middle of a step. The world
// watches the rules. A failure prints the transcript and the seed; go test -rapid.checks=100000 looks longer.
func TestEverythingThatMayHappen(t *testing.T) {
	ends := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newSimulation(t)
		events := rapid.IntRange(10, 250).Draw(t, "events")
		faults := map[int]bool{}
		for range rapid.IntRange(0, 3).Draw(t, "faults") {
			faults[w.pick("fault at", events)] = true
		}
		for n := range events {
			list := w.choices()
			if faults[n] {
				list = w.faults()
			}
			if len(list) > 0 {
				w.happen(list[w.pick("event", len(list))])
			}
		}
		w.comeToAnEnd()
		if len(faults) == 0 {
			w.nothingWentWrong(map[bool]Result{true: ResultChecked, false: ResultDone}[w.pm.check])
			if err := w.err(); err != nil {
				t.Fatal(err)
			}
		}
		if w.p.end != nil {
			ends[string(w.p.end.Result)]++
		} else {
			ends["predecessor died"]++
		}
		if w.s.end != nil && w.s.end.Result == ResultReturned {
			ends[string(ResultReturned)]++
		}
		if w.s.parted && w.sm.gaveBack {
			ends["predecessor died, and had everything back"]++
		}
	})
	t.Log(ends)
	for _, r := range []Result{ResultDone, ResultChecked, ResultRolledBack, ResultRecalled, ResultReturned} {
		if !t.Failed() && ends[string(r)] == 0 {
			t.Errorf("nothing ended as %q: the simulation does not get there any more", r)
		}
	}
}

type simulation struct {
	*world
	t    *rapid.T
	hand int // of the clock
}

func newSimulation(t *rapid.T) *simulation {
	draw := func(label string, from, to int) int { return rapid.IntRange(from, to).Draw(t, label) }
	opt := Options{
		LendBatch: draw("lend batch", 1, 3), OfferBatch: draw("offer batch", 1, 3), MaxOffers: draw("max offers", 1, 2), Retries: draw("retries", 0, 2),
	}
	w := &simulation{world: newWorld(opt, draw("sessions", 0, 6)), t: t}
	w.pm.check = draw("check", 0, 19) == 0
	w.log = func(line string) { t.Log(line) }
	return w
}

// pick draws one of n. It is two draws, since rapid prefers small numbers, and one would seldom reach the end of a list.
func (w *simulation) pick(label string, n int) int {
	half := rapid.IntRange(0, n-1)
	return (half.Draw(w.t, label) + 7*half.Draw(w.t, label)) % n
}

func (w *simulation) happen(e event) {
	w.log("- " + e.name)
	e.do(w.world)
	w.watch()
	if err := w.err(); err != nil {
		w.t.Fatal(err)
	}
}

// choices are all things that may happen now. What goes on anyhow is named several times, so that it happens more often.
func (w *simulation) choices() []event {
	goesOn := w.events()
	list := slices.Concat(goesOn, goesOn, goesOn, goesOn)
	add := func(name string, do func(w *world)) { list = append(list, event{name, do}) }
	list = append(list, w.besides()...)
	for _, s := range w.live() {
		if id := s.id; s.p == ours && w.p.alive || s.s == owned && w.s.alive {
			add(fmt.Sprintf("%d is busy: %v", id.N(), !s.busy), func(w *world) { w.sessions[id].busy = !w.sessions[id].busy })
		}
	}
	for _, x := range w.sides() {
		if x.stopped {
			list = append(list, x.on(x.name+" goes on", func(w *world, x *side) { x.stopped = false }))
			continue
		}
		for _, timer := range []Timer{RetryTimer, BeatTimer, ProbationTimer} {
			if x.timers[timer] && !(timer == BeatTimer && w.pm.missed >= 2) {
				list = append(list, x.runsOut(timer))
			}
		}
	}
	return list
}

// comeToAnEnd lets everything be heard and all time pass, and checks that it is over then.
func (w *simulation) comeToAnEnd() {
	for s := range w.all {
		s.busy = false
	}
	w.p.actsLeft, w.s.actsLeft = -1, -1
	w.p.stopped = false
	for n := 0; !w.settled(); n++ {
		if !w.p.alive || w.p.end != nil {
			w.s.stopped = false // until then P has to do without it
		}
		if n > 2000 {
			w.t.Fatalf("it does not end: P is %s, S is %s", w.pm.step, w.sm.stage)
		}
		if list := w.events(); len(list) > 0 {
			w.happen(list[0])
			continue
		}
		w.watchQuiet()
		if !w.passTime() {
			w.t.Fatalf("nothing can happen any more: P is %s, S is %s", w.pm.step, w.sm.stage)
		}
	}
	for list := w.events(); len(list) > 0; list = w.events() {
		w.happen(list[0]) // what is late changes nothing
	}
	w.account()
	if err := w.err(); err != nil {
		w.t.Fatal(err)
	}
}

// clock is the order in which comeToAnEnd has timers run out: the short ones first, but each in its turn.
var clock = []Timer{RetryTimer, BeatTimer, ProbationTimer, FinishTimer, ReturnTimer, ExitTimer, AnswerTimer, DrainTimer, HelloTimer, TotalTimer}

// passTime fires the next timer that is set. It reports whether there was one.
func (w *simulation) passTime() bool {
	for range 2 * len(clock) {
		timer, x := clock[w.hand/2%len(clock)], w.sides()[w.hand%2]
		w.hand++
		if timer == DrainTimer && x.timers[RetryTimer] && w.hand < 20*len(clock) {
			continue // whoever can come to rest does so in time
		}
		if x.timers[timer] && !x.stopped {
			w.happen(x.runsOut(timer))
			return true
		}
	}
	return false
}
