package protocol

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	searchFaults = flag.Int("search.faults", 1, "how much may go wrong, or happen besides, in one handoff of TestEveryInterleaving")
	searchStates = flag.Int("search.states", 1_000_000, "states after which each of its searches gives up, and says how far it came; 0 = none")
)

// TestEveryInterleaving goes through all orders in which things can happen to both machines, the real ones, while three sessions move in two
// batches, and back: deliveries, time, and so much besides (deaths, also in the middle of a step, stops, timers, ends, opens, pushes, refusals,
// lies, faults) as the flag says.
//
// The world watches the rules in every state. From each state, an end has to be in reach without anything going wrong: both sides
// serve, or have exited. What happens by itself goes on happening, and no timer is set for ever, so whoever cannot be kept from an end for
// good comes to one. A violation is told as the transcript that leads there.
//
// With one fault there are some 430,000 states, in about twelve seconds of one core. With -search.faults=2 -search.states=0 -timeout=2h, each
// of the short scenarios has up to two million, in a minute of one core; the two with a straggler have five and ten, and want 3 GB.
func TestEveryInterleaving(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(strings.ReplaceAll(sc.name, " ", "-"), func(t *testing.T) {
			if raceDetector && sc.long {
				t.Skip("it is complete without -race, which has nothing to find here")
			}
			began := time.Now()
			s := newSearch(sc, *searchFaults, *searchStates)
			if v := s.run(); v != nil {
				t.Fatal(s.tell(v))
			}
			t.Logf("%s: %v", s, time.Since(began).Round(time.Millisecond))
			if s.full() && s.faults <= 1 {
				t.Error("it has to be complete")
			}
		})
	}
}

// A scenario is what a search sets out from.
type scenario struct {
	name    string
	prepare func(w *world)
	also    func(w *world) []event // happens by itself, besides what always does; nil = nothing
	long    bool                   // it has more states than all the others together
	returns bool                   // there is no way on which every session moves
	result  Result                 // of the predecessor, if nothing else goes wrong; "" = any
}

// The ways back differ by what the successor has by then: some sessions; all of them, and the word that it is to accept; or besides a
// session of its own, and a straggler.
var scenarios = []scenario{
	{name: "there", prepare: func(w *world) {}, result: ResultDone},
	{name: "back while sessions move", prepare: func(w *world) { w.refuse[w.third()] = true }, returns: true, result: ResultRolledBack},
	{name: "back from DONE", prepare: func(w *world) { w.refuseMoves[Serving] = true }, returns: true, result: ResultRolledBack},
	{name: "nobody there", prepare: func(w *world) { clear(w.sessions) }, result: ResultDone},
	{name: "an end", prepare: func(w *world) {}, also: func(w *world) []event {
		if first := w.where(func(*sess) bool { return true })[0]; w.canEnd(w.sessions[first]) == &w.s && !w.s.stopped {
			return []event{{"1 ends", func(w *world) { w.endSession(w.sessions[first]) }}}
		}
		return nil
	}, result: ResultDone},
	{name: "straggler", prepare: func(w *world) { w.sessions[w.third()].busy = true }, also: comesToRest, long: true},
	{name: "back from probation", prepare: func(w *world) {
		w.sessions[w.third()].busy, w.refuse[w.third()] = true, true
	}, also: func(w *world) []event {
		list := comesToRest(w)
		if w.s.accepting && w.nextID == 3 {
			list = append(list, w.s.on("a session opens in S", (*world).open))
		}
		return list
	}, returns: true, long: true},
}

func (w *world) third() ID { return w.where(func(*sess) bool { return true })[2] }

// comesToRest: the third session is a straggler, which follows.
func comesToRest(w *world) []event {
	if id := w.third(); w.p.alive && w.pm.step == draining && w.sessions[id].busy {
		return []event{{"3 comes to rest", func(w *world) { w.sessions[id].busy = false }}}
	}
	return nil
}

// A search is a walk through the states of a world: first those that come about by themselves, then, from each of them, those after one
// thing that happens besides, and so on. Each of these walks goes breadth first, so what it finds wrong it tells in few words.
type search struct {
	scenario
	faults, limit int
	mutant        *mutant
	again         func(n node) // is shown states that were seen before; nil = nobody wants to see them

	states []state
	index  map[uint64]int32 // by key
	ends   []int32          // states in which both sides have come to an end
	leaves map[Result]int   // in how many nothing can happen any more, by P's result
	moved  bool             // on some way without a fault, everything
	round  int              // things that have happened besides
	tried  int              // states from which this round set out
	of     int              // so many
}

// A state that was seen: how it was reached first, and where it leads by itself.
type state struct {
	before  int32 // 0 = it is the first, which is state 1
	event   int16 // place in the list of events; in that of things besides, counted from the end, if < 0
	follows []int32
}

// A node is a state with its world.
type node struct {
	at int32
	w  *world
}

// A violation is what is wrong in a state.
type violation struct {
	at    int32
	wrong string
}

func newSearch(sc scenario, faults, limit int) *search {
	return &search{scenario: sc, faults: faults, limit: limit, states: make([]state, 1), index: map[uint64]int32{}, leaves: map[Result]int{}}
}

func (s *search) begin() *world {
	w := newWorld(Options{LendBatch: 2, OfferBatch: 2, MaxOffers: 2, Retries: 1}, 3)
	w.mutant = s.mutant
	s.prepare(w)
	return w
}

func (s *search) run() *violation {
	first := node{1, s.begin()}
	s.states = append(s.states, state{})
	s.index[first.w.key()] = 1
	known, v := s.spread(first)
	for ; v == nil && s.round < s.faults; s.round++ {
		if known, v = s.goFurther(known); s.full() {
			break
		}
	}
	if v == nil && !s.full() {
		v = s.stranded()
	}
	if v == nil && !s.moved && !s.returns {
		v = &violation{1, ruleName(0) + ": there is no way on which every session moves"}
	}
	return v
}

func (s *search) full() bool { return s.limit > 0 && len(s.states) > s.limit }

// goFurther has one thing more happen in each of the states known.
func (s *search) goFurther(known []node) (more []node, v *violation) {
	s.of = len(known)
	for i := range known {
		n := known[i]
		known[i].w = nil // it is large
		for k, e := range s.besides(n.w) {
			next, isNew, v := s.follow(n, e, int16(-1-k))
			if v != nil {
				return nil, v
			}
			if !isNew {
				continue
			}
			reached, v := s.spread(next)
			if v != nil {
				return nil, v
			}
			if s.round+1 < s.faults {
				more = append(more, reached...)
			}
		}
		if s.tried = i + 1; s.full() {
			break
		}
	}
	return more, nil
}

// spread goes into a new state, and all new ones that it leads to by itself.
func (s *search) spread(first node) (reached []node, v *violation) {
	reached = []node{first}
	keep := s.round+1 < s.faults || s.round == 0 && s.of == 0
	for i := 0; i < len(reached) && !s.full(); i++ {
		n := reached[i]
		if !keep {
			reached[i].w = nil
		}
		list := s.events(n.w)
		if v := s.look(n, len(list) == 0); v != nil {
			return nil, v
		}
		follows := make([]int32, len(list))
		for k, e := range list {
			next, isNew, v := s.follow(n, e, int16(k))
			if v != nil {
				return nil, v
			}
			if follows[k] = next.at; isNew {
				reached = append(reached, next)
			}
		}
		s.states[n.at].follows = follows
	}
	return reached, nil
}

// follow has one event happen, in a copy of the world.
func (s *search) follow(n node, e event, place int16) (next node, isNew bool, v *violation) {
	w := n.w.clone()
	e.do(w)
	w.watch()
	key := w.key()
	at, seen := s.index[key]
	if !seen || len(w.wrong) > 0 {
		at = int32(len(s.states))
		s.states = append(s.states, state{before: n.at, event: place})
		s.index[key] = at
	}
	if err := w.err(); err != nil {
		return node{}, false, &violation{at, err.Error()}
	}
	if seen && s.again != nil {
		s.again(node{at, w})
	}
	return node{at, w}, !seen, nil
}

// look says what is wrong in a state.
func (s *search) look(n node, leaf bool) *violation {
	w := n.w
	if len(w.events()) == 0 {
		w.watchQuiet()
	}
	switch {
	case w.settled():
		s.ends = append(s.ends, n.at)
	case leaf:
		w.foul(5, "nothing can happen any more, and P is %s, S is %s", w.pm.step, w.sm.stage)
	}
	if leaf {
		w.account()
		if !w.trouble {
			want := s.result
			if e := w.p.end; want != "" && w.where(func(s *sess) bool { return s.ended }) != nil { // it need not be refused
				want = e.Result
			}
			w.nothingWentWrong(want)
			s.moved = s.moved || s.of == 0 && len(w.where(func(s *sess) bool { return s.s != owned && (!s.ended || s.finishing) })) == 0
		}
		if e := w.p.end; e != nil {
			s.leaves[e.Result]++
		}
	}
	if err := w.err(); err != nil {
		return &violation{n.at, err.Error()}
	}
	return nil
}

// stranded finds a state from which no end can be reached by itself.
func (s *search) stranded() *violation {
	leadsTo := make([][]int32, len(s.states)) // it: from where
	for from := range s.states {
		for _, to := range s.states[from].follows {
			leadsTo[to] = append(leadsTo[to], int32(from))
		}
	}
	ending := make([]bool, len(s.states))
	list := slices.Clone(s.ends)
	for len(list) > 0 {
		at := list[len(list)-1]
		if list = list[:len(list)-1]; !ending[at] {
			ending[at] = true
			list = append(list, leadsTo[at]...)
		}
	}
	for at := 1; at < len(s.states); at++ {
		goesOn := slices.ContainsFunc(s.states[at].follows, func(to int32) bool { return to > int32(at) })
		if !ending[at] && !goesOn { // here the circle closes
			return &violation{int32(at), ruleName(5) + ": from here no end is in reach"}
		}
	}
	return nil
}

// events are what happens by itself, time included once all is quiet.
func (s *search) events(w *world) []event {
	list := w.events()
	if s.also != nil {
		list = append(list, s.also(w)...)
	}
	if len(list) > 0 || w.settled() {
		return list
	}
	for _, x := range w.sides() {
		for _, timer := range clock {
			if x.timers[timer] && x.alive && x.end == nil && !x.stopped && !w.earlier(x, timer) {
				list = append(list, x.runsOut(timer))
			}
		}
		if x.stopped && (x == &w.p || !w.p.alive || w.p.end != nil) { // until then P has to do without S
			list = append(list, x.on(x.name+" goes on", func(w *world, x *side) { x.stopped = false }))
		}
	}
	return list
}

// earlier reports whether another timer always runs out before this one: S has three quarters of the time that P gives it to return.
func (w *world) earlier(x *side, t Timer) bool {
	if x != &w.p || t != ReturnTimer || w.s.stopped || w.sm.stage != givingBack || !w.heard(&w.s) {
		return false
	}
	stuck := w.where(func(s *sess) bool { return s.stuck })
	if !w.s.timers[ReturnTimer] && !w.lied && stuck == nil {
		w.foul(5, "S has not given everything back in time, and nothing keeps it")
	}
	return w.s.timers[ReturnTimer]
}

// besides are what may happen in addition: also timers that run out while there is much to do.
func (s *search) besides(w *world) []event {
	list := slices.Concat(w.faults(), w.lies())
	for _, x := range w.sides() {
		for _, timer := range []Timer{RetryTimer, ProbationTimer} {
			if x.alive && x.timers[timer] && !x.stopped {
				list = append(list, x.runsOut(timer))
			}
		}
	}
	for i, e := range list {
		list[i].do = func(w *world) { w.trouble = true; e.do(w) }
	}
	return append(list, w.besides()...)
}

// tell writes down what leads to a violation, by having it happen again.
func (s *search) tell(v *violation) string {
	var places []int16
	for at := v.at; s.states[at].before != 0; at = s.states[at].before {
		places = append(places, s.states[at].event)
	}
	slices.Reverse(places)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", v.wrong)
	w := s.begin()
	w.log = func(line string) { fmt.Fprintln(&b, line) }
	for _, place := range places {
		e := event{}
		if place < 0 {
			e = s.besides(w)[-1-place]
		} else {
			e = s.events(w)[place]
		}
		fmt.Fprintln(&b, "- "+e.name)
		e.do(w)
		w.watch()
	}
	return b.String()
}

func (s *search) String() string {
	text := fmt.Sprintf("%d states, and from each an end is in reach; %v where nothing goes on", len(s.states)-1, s.leaves)
	if s.full() {
		text = fmt.Sprintf("GIVEN UP with %d states, in round %d, after %d of the %d states from which it sets out", len(s.states)-1, s.round+1, s.tried, s.of)
	}
	return text
}
