package protocol

import (
	"flag"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var (
	searchFaults = flag.Int("search.faults", 1, "what may go wrong, or happen besides, in one handoff of TestEveryInterleaving")
	searchStates = flag.Int("search.states", 30_000, "states after which each part of TestEveryInterleaving gives up")
)

// TestEveryInterleaving goes through all orders in which things can happen to both machines, the real ones, while three sessions move in two
// batches, and back: deliveries, time, and so many of the things besides (deaths in the middle of a step, stops, timers, ends, opens, pushes,
// refusals, faults) as the flag says. A state that was seen is not gone into again. The world watches the rules; in addition, whenever nothing
// can happen any more, both sides have come to an end. On a violation it prints the transcript that
// leads there. With the flag for states high enough the first part is complete; the others, which go back, take minutes.
func TestEveryInterleaving(t *testing.T) {
	opt := Options{LendBatch: 2, OfferBatch: 2, MaxOffers: 2, Retries: 1}
	for _, trouble := range []string{"", "no move to Serving", "S refuses 3"} { // the latter two have every handoff go back
		t.Run(strings.ReplaceAll("handoff "+trouble, " ", "-"), func(t *testing.T) {
			begin := func() *world {
				w := newWorld(opt, 3)
				w.refuseMoves[Serving] = trouble == "no move to Serving"
				for id := range w.sessions {
					w.refuse[id] = trouble == "S refuses 3" && id.N() == 3
				}
				return w
			}
			s := &search{begin: begin, seen: map[uint64]bool{}, ends: map[string]int{}, seed: maphash.MakeSeed(), pick: rand.New(rand.NewPCG(1, 2))}
			s.run(t)
			t.Logf("%d states, %d ways to the end: %v", len(s.seen), s.leaves, s.ends)
		})
	}
}

// A search is a walk through the states of a world.
type search struct {
	begin  func() *world
	seen   map[uint64]bool
	seed   maphash.Seed
	stack  []node
	ends   map[string]int
	leaves int
	pick   *rand.Rand
}

// A node is a state that has yet to be gone into, and the way there.
type node struct {
	w      *world
	way    *way
	faults int // left
}

type way struct {
	before *way
	event  string
}

func (s *search) run(t *testing.T) {
	s.stack = []node{{s.begin(), nil, *searchFaults}}
	for len(s.stack) > 0 && len(s.seen) < *searchStates {
		i := s.pick.IntN(len(s.stack)) // so that one that gives up has been everywhere
		last := len(s.stack) - 1
		n := s.stack[i]
		s.stack[i], s.stack = s.stack[last], s.stack[:last]
		if wrong := s.visit(n); wrong != "" {
			t.Fatalf("%s\n%s", wrong, s.transcript(n.way))
		}
	}
	if len(s.stack) > 0 {
		t.Logf("given up with %d states to go into", len(s.stack))
	}
}

// visit goes into a state, and says what is wrong there.
func (s *search) visit(n node) (wrong string) {
	free, besides := possible(n.w)
	if err := n.w.err(); err != nil {
		return err.Error()
	}
	if len(free) == 0 {
		s.leaves++
		n.w.account()
		if !n.w.settled() {
			return fmt.Sprintf("nothing can happen any more: P is %s, S is %s", n.w.pm.step, n.w.sm.stage)
		}
		if err := n.w.err(); err != nil {
			return err.Error()
		}
		if e := n.w.p.end; e != nil {
			s.ends[string(e.Result)]++
		}
		return ""
	}
	for i := range free {
		s.follow(n, i, false, n.faults)
	}
	if n.faults > 0 {
		for i := range besides {
			s.follow(n, i, true, n.faults-1)
		}
	}
	return ""
}

// follow has one event happen, in a copy of the world.
func (s *search) follow(n node, i int, besides bool, faults int) {
	w := n.w.clone()
	free, more := possible(w)
	if besides {
		free = more
	}
	e := free[i]
	e.do()
	w.watch()
	next := node{w, &way{n.way, e.name}, faults}
	if len(w.wrong) > 0 {
		s.stack = append(s.stack, next) // to be told of there
		return
	}
	if key := maphash.String(s.seed, fmt.Sprint(faults, w.key())); !s.seen[key] {
		s.seen[key] = true
		s.stack = append(s.stack, next)
	}
}

// possible is what happens by itself, time included once all is quiet, and what may happen besides.
func possible(w *world) (free, besides []event) {
	sim := &simulation{world: w}
	if err := w.err(); err != nil {
		return nil, nil
	}
	free = w.events()
	if len(free) == 0 && !w.settled() {
		for _, x := range []*side{&w.p, &w.s} {
			for _, timer := range clock {
				if x.timers[timer] && x.alive && x.end == nil && !x.stopped {
					free = append(free, event{fmt.Sprintf("time passes: %s of %s", timer, x.name), func() { sim.fire(x, timer) }})
				}
			}
		}
		if w.s.stopped && (!w.p.alive || w.p.end != nil) {
			free = append(free, event{"S goes on", func() { w.s.stopped = false }})
		}
		if w.p.stopped {
			free = append(free, event{"P goes on", func() { w.p.stopped = false }})
		}
	}
	besides = sim.faults()
	for _, s := range sim.live() {
		n := s.id.N()
		if x := w.canEnd(s); x != nil && !x.stopped {
			besides = append(besides, event{fmt.Sprintf("%d ends", n), func() { w.endSession(s) }})
			besides = append(besides, event{fmt.Sprintf("%d is served", n), func() { w.serve(s) }})
		}
		if s.p == frozen && w.p.alive || s.s == sFrozen && w.s.alive {
			besides = append(besides, event{fmt.Sprintf("%d is written to", n), func() { w.push(s) }})
		}
	}
	for _, x := range []*side{&w.p, &w.s} {
		if x.accepting && !x.stopped {
			besides = append(besides, event{"a session opens in " + x.name, func() { w.open(x) }})
		}
	}
	return free, besides
}

// transcript plays a way again, and writes down what happens.
func (s *search) transcript(to *way) string {
	var names []string
	for ; to != nil; to = to.before {
		names = append(names, to.event)
	}
	slices.Reverse(names)
	var b strings.Builder
	w := s.begin()
	w.log = func(line string) { fmt.Fprintln(&b, line) }
	for _, name := range names {
		free, besides := possible(w)
		list := append(free, besides...)
		i := slices.IndexFunc(list, func(e event) bool { return e.name == name })
		fmt.Fprintln(&b, "- "+name)
		if i < 0 {
			return b.String() + "and this cannot happen the second time\n"
		}
		list[i].do()
		w.watch()
	}
	return b.String()
}

// clone copies a world between two steps, when no question is open.
func (w *world) clone() *world {
	c := *w
	c.pm, c.sm = w.pm.clone(), w.sm.clone()
	c.p, c.s = w.p.clone(), w.s.clone()
	c.p.step, c.p.perform, c.s.step, c.s.perform = c.pm.Step, c.performP, c.sm.Step, c.performS
	c.sessions = make(map[ID]*sess, len(w.sessions))
	for id, s := range w.sessions {
		copied := *s
		c.sessions[id] = &copied
	}
	c.log = func(string) {}
	c.wrong, c.journal, c.reported = slices.Clone(w.wrong), slices.Clone(w.journal), nil
	c.intended, c.refuseMoves, c.refuse, c.unsavable = maps.Clone(w.intended), maps.Clone(w.refuseMoves), maps.Clone(w.refuse), maps.Clone(w.unsavable)
	return &c
}

func (x *side) clone() side {
	c := *x
	c.mail, c.posted, c.timers = slices.Clone(x.mail), slices.Clone(x.posted), maps.Clone(x.timers)
	return c
}

func (p *Predecessor) clone() *Predecessor {
	c := *p
	c.machine = machine{}
	c.giver, c.receiver = p.giver.clone(&c.machine), p.receiver.clone(&c.machine)
	return &c
}

func (s *Successor) clone() *Successor {
	c := *s
	c.machine = machine{}
	c.giver, c.receiver, c.accepted = s.giver.clone(&c.machine), s.receiver.clone(&c.machine), maps.Clone(s.accepted)
	return &c
}

func (g giver) clone(m *machine) giver {
	g.machine = m
	g.sessions.where, g.tries, g.refused = maps.Clone(g.sessions.where), maps.Clone(g.tries), maps.Clone(g.refused)
	for _, list := range []*[]ID{&g.queue, &g.resting, &g.busy, &g.late, &g.dead} {
		*list = slices.Clone(*list)
	}
	g.intents, g.offers = slices.Clone(g.intents), slices.Clone(g.offers)
	return g
}

func (r receiver) clone(m *machine) receiver {
	r.machine = m
	r.where, r.offers = maps.Clone(r.where), maps.Clone(r.offers)
	return r
}

// key tells states apart, but for what makes no difference: reasons, and counts that only grow.
func (w *world) key() string {
	var b strings.Builder
	p, s := w.pm.clone(), w.sm.clone()
	p.how, p.reason, s.how, s.reason, p.beat = "", "", "", "", 0
	for _, g := range []*giver{&p.giver, &s.giver} {
		g.machine, g.giving.Lates, g.giving.IDs = nil, nil, nil
		for id, n := range g.tries {
			g.tries[id] = min(n, g.opt.Retries+1)
		}
	}
	p.receiver.machine, s.receiver.machine = nil, nil
	p.receiver.asked, s.receiver.asked = nil, nil
	fmt.Fprint(&b, *p, *s)
	for _, x := range []*side{&w.p, &w.s} {
		fmt.Fprint(&b, x.alive, x.begun, x.state, x.accepting, x.timers, x.toldDeath, x.toldBroken, x.end != nil, x.parted, x.hungUp, x.stopped, x.asked, max(x.actsLeft, -1))
		for _, m := range x.mail {
			fmt.Fprint(&b, blankReason(describe(m.m)), m.lent)
		}
		for _, in := range x.posted {
			fmt.Fprint(&b, blankReason(describe(in)))
		}
	}
	for _, id := range sortedKeys(w.sessions) {
		fmt.Fprint(&b, *w.sessions[id])
	}
	fmt.Fprint(&b, w.journal, w.intended, w.offers, w.cutOff, w.fenced, w.impatient, w.unfit, w.noAdopt, w.noBorrow, w.noRoom, w.noJournal, w.refuseMoves, w.refuse, w.unsavable)
	return b.String()
}

// blankReason leaves out why something was aborted, and the number of a beat.
func blankReason(line string) string {
	for _, name := range []string{"ABORT", "BEAT", "went round"} {
		if strings.HasPrefix(line, name) {
			return name
		}
	}
	return line
}
