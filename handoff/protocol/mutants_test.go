package protocol

import (
	"slices"
	"strings"
	"testing"

	"baton/handoff/wire"
)

// TestBrokenRules breaks each rule on purpose, in ways in which a machine could, and has the search find it: a search that cannot fail
// proves nothing. The machines are the real ones; what stands between one and its world drops or changes what it hears or does. With -v, it
// says what the search has found.
func TestBrokenRules(t *testing.T) {
	broken := map[int]bool{}
	for _, m := range mutants {
		broken[m.rule] = true
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			sc := scenarios[slices.IndexFunc(scenarios, func(sc scenario) bool { return sc.name == m.scenario })]
			s := newSearch(sc, 1, 0)
			s.mutant = &m
			v := s.run()
			if v == nil {
				t.Fatalf("%s does it, and nothing is found: %s", m.side, s)
			}
			story := s.tell(v)
			if !strings.Contains(v.wrong, ruleName(m.rule)) {
				t.Errorf("%s does it, which breaks %s, and the search finds something else: %s", m.side, ruleName(m.rule), story)
			}
			lines := strings.Count(story, "\n- ")
			if !strings.Contains(story, "\nP ← ") {
				t.Errorf("no story is told: %s", story)
			}
			t.Logf("after %d states and %d events: %s", len(s.states)-1, lines, v.wrong)
		})
	}
	for rule := range rules {
		if !broken[rule] {
			t.Errorf("nobody breaks rule %d", rule)
		}
	}
}

// A mutant is a machine that does something wrong.
type mutant struct {
	rule     int
	name     string
	scenario string // in which it shows
	side     string
	step     func(w *world, in Input, step step1) []Output
}

type step1 = func(Input) []Output

// instead has other outputs take the place of those of one type, or of those that are passed through. To go on as if one had been answered, it
// returns what the machine does then.
func instead[T Output](f func(w *world, out T, step step1) []Output) func(w *world, in Input, step step1) []Output {
	return func(w *world, in Input, step step1) []Output {
		var mutated step1
		mutated = func(in Input) (outs []Output) {
			for _, out := range step(in) {
				if t, ok := out.(T); ok {
					outs = append(outs, f(w, t, mutated)...)
				} else {
					outs = append(outs, out)
				}
			}
			return outs
		}
		return mutated(in)
	}
}

// hearing has a machine hear other inputs in place of those of one type.
func hearing[T Input](f func(w *world, in T) []Input) func(w *world, in Input, step step1) []Output {
	return func(w *world, in Input, step step1) (outs []Output) {
		t, ok := in.(T)
		if !ok {
			return step(in)
		}
		for _, in := range f(w, t) {
			outs = append(outs, step(in)...)
		}
		return outs
	}
}

// saying has other outputs take the place of saying one type of message.
func saying[M wire.Message](f func(w *world, m M) []Output) func(w *world, in Input, step step1) []Output {
	return instead(func(w *world, out Send, step step1) []Output {
		if m, ok := out.Message.(M); ok {
			return f(w, m)
		}
		return []Output{out}
	})
}

// notMoving has a machine go on without a move.
func notMoving(to State) func(w *world, in Input, step step1) []Output {
	return instead(func(w *world, out Move, step step1) []Output {
		if out.To == to {
			return step(Moved{})
		}
		return []Output{out}
	})
}

// without has nothing take the place of some outputs.
func without[T Output](which func(w *world, out T) bool) func(w *world, in Input, step step1) []Output {
	return instead(func(w *world, out T, step step1) []Output {
		if which(w, out) {
			return nil
		}
		return []Output{out}
	})
}

func (w *world) goesBack() bool {
	return w.pm.step == aborting || w.pm.step == returning || w.pm.step == fencing
}

const (
	there         = "there"
	fromMoving    = "back while sessions move"
	fromDone      = "back from DONE"
	withEnd       = "an end"
	fromProbation = "back from probation"
)

var mutants = []mutant{
	{0, "an ended session is not told of", there, "P", saying(func(w *world, m *wire.Closed) []Output { return nil })},
	{0, "an ended session is not heard of", there, "P", hearing(func(w *world, in Received) []Input {
		if in.Message.Type() == wire.TClosed {
			return nil
		}
		return []Input{in}
	})},
	{0, "a question is not the last", there, "P", instead(func(w *world, out LetGo, step step1) []Output { return []Output{out, Detach(out)} })},

	{1, "what is taken is served before it is given", there, "S", saying(func(w *world, m *wire.Take) []Output {
		return []Output{Own{Give: &wire.Give{Seq: m.Seq, IDs: m.IDs}}, Send{m}}
	})},
	{1, "what comes back is served before it is given", fromDone, "P", saying(func(w *world, m *wire.Take) []Output {
		return []Output{Own{Give: &wire.Give{Seq: m.Seq, IDs: m.IDs}}, Send{m}}
	})},
	{1, "what is given is thawed", there, "P", saying(func(w *world, m *wire.Give) []Output { return []Output{Send{m}, Thaw{m.IDs}} })},
	{1, "what is given back is thawed", fromDone, "S", saying(func(w *world, m *wire.Give) []Output { return []Output{Send{m}, Thaw{m.IDs}} })},
	{1, "GIVE is believed whatever it names", there, "S", hearing(func(w *world, in Received) []Input {
		if m, ok := in.Message.(*wire.Give); ok && w.lied { // as if it had been taken
			w.sm.receiver.put(taken, m.IDs)
			w.sm.receiver.offers[m.Seq] = offering{ids: m.IDs}
		}
		return []Input{in}
	})},
	{1, "DONE while it accepts", there, "P", instead(func(w *world, out StopAccepting, step step1) []Output { return step(NotAccepting{}) })},
	{1, "ABORT while it accepts", fromProbation, "S", instead(func(w *world, out StopAccepting, step step1) []Output { return step(NotAccepting{}) })},

	{2, "a batch is lent without intent", there, "P", instead(func(w *world, out Intend, step step1) []Output {
		w.post(&w.p, Journaled{out.Batch})
		return nil
	})},
	{2, "a batch is lent though the journal is full", there, "P", hearing(func(w *world, in NotJournaled) []Input { return []Input{Journaled{in.Batch}} })},
	{2, "no move to Transferring", there, "P", notMoving(Transferring)},
	{2, "no move to Draining", there, "P", notMoving(Draining)},
	{2, "no move to Serving", there, "S", notMoving(Serving)},
	{2, "a move that was refused is taken for made", there, "P", hearing(func(w *world, in MoveRefused) []Input { return []Input{Moved{}} })},

	{3, "a fence is not waited for", fromMoving, "P", instead(func(w *world, out Fence, step step1) []Output {
		return slices.Concat([]Output{out}, step(PeerDied{"it will have died"}), step(Broken{"EOF"}))
	})},
	{3, "a fence is left out and death assumed", fromMoving, "P", instead(func(w *world, out Fence, step step1) []Output {
		return append(step(PeerDied{"it will have died"}), step(Broken{"EOF"})...)
	})},
	{3, "recalled before death", there, "P", instead(func(w *world, out Fence, step step1) []Output {
		return []Output{Recall{w.pm.theirsStill()}, out}
	})},
	{3, "unlent before death", there, "P", saying(func(w *world, m *wire.Abort) []Output {
		return []Output{Send{m}, Unlend{w.pm.giver.sessions.at(atHome)}}
	})},
	{3, "silence is taken for death by P", there, "P", hearing(func(w *world, in Broken) []Input { return []Input{PeerDied{"it is silent"}, in} })},
	{3, "silence is taken for death by S", there, "S", hearing(func(w *world, in Broken) []Input { return []Input{PeerDied{"it is silent"}, in} })},
	{3, "one that does not exit is taken for dead", there, "P", hearing(func(w *world, in Expired) []Input {
		if in.Timer == ExitTimer {
			return []Input{PeerDied{"it had its time"}, Broken{"EOF"}}
		}
		return []Input{in}
	})},

	{4, "late output is forgotten", there, "P", saying(func(w *world, m *wire.Give) []Output {
		return []Output{Send{&wire.Give{Seq: m.Seq, IDs: m.IDs}}}
	})},
	{4, "late output is forgotten on the way back", fromDone, "S", saying(func(w *world, m *wire.Give) []Output {
		return []Output{Send{&wire.Give{Seq: m.Seq, IDs: m.IDs}}}
	})},
	{4, "dropped in place of rescued", there, "S", instead(func(w *world, out Rescue, step step1) []Output { return []Output{Drop(out)} })},
	{4, "copies are dropped when S serves", there, "P", instead(func(w *world, out Handed, step step1) []Output {
		return []Output{out, Release{w.pm.giver.sessions.at(given)}}
	})},
	{4, "one is not recalled", there, "P", instead(func(w *world, out Recall, step step1) []Output {
		return []Output{Recall{out.IDs[min(1, len(out.IDs)):]}}
	})},
	{4, "an end is not believed of the dead", withEnd, "P", hearing(func(w *world, in Received) []Input {
		if in.Message.Type() == wire.TClosed && !w.s.alive {
			return nil
		}
		return []Input{in}
	})},
	{4, "it leaves when P dies", there, "S", func(w *world, in Input, step step1) []Output {
		if _, died := in.(PeerDied); died && w.s.toldBroken {
			return []Output{End{ResultGaveUp, "P died"}}
		}
		return step(in)
	}},

	{5, "DONE is believed when it is false", fromDone, "P", func(w *world, in Input, step step1) []Output {
		m, ok := in.(Received)
		if ok && m.Message.Type() == wire.TDone && w.pm.step == returning { // doneThere, but for theirsStill
			w.pm.step, w.pm.result, w.pm.returned = aborting, ResultRolledBack, true
			return []Output{Send{&wire.Done{}}, SetTimer{ExitTimer}}
		}
		return step(in)
	}},
	{5, "what was offered stays frozen", there, "P", without(func(w *world, out Thaw) bool { return w.goesBack() })},
	{5, "it does not accept on the way back", there, "P", without(func(w *world, out Accept) bool { return true })},
	{5, "no move back to Serving", there, "P", notMoving(Serving)},
	{5, "a successor that could return is fenced", fromMoving, "P", instead(func(w *world, out SetTimer, step step1) []Output {
		if out.Timer == ReturnTimer {
			return []Output{out, Fence{"it will not do it anyhow"}}
		}
		return []Output{out}
	})},
	{5, "recalled before anything was given", there, "P", func(w *world, in Input, step step1) []Output {
		outs := step(in)
		for i, out := range outs {
			if end, ok := out.(End); ok && end.Result == ResultRolledBack {
				outs[i] = End{ResultRecalled, end.Reason}
			}
		}
		return outs
	}},
	{5, "nobody waits for an exit", there, "P", without(func(w *world, out SetTimer) bool { return out.Timer == ExitTimer })},
	{5, "probation has no end", there, "P", without(func(w *world, out SetTimer) bool { return out.Timer == ProbationTimer })},
	{5, "ABORT is not answered", fromMoving, "S", hearing(func(w *world, in Received) []Input {
		if in.Message.Type() == wire.TAbort {
			return nil
		}
		return []Input{in}
	})},
	{5, "it gives up with what it has", fromMoving, "S", func(w *world, in Input, step step1) []Output {
		if m, ok := in.(Received); ok && m.Message.Type() == wire.TAbort {
			return []Output{End{ResultGaveUp, "P says ABORT"}}
		}
		return step(in)
	}},
	{5, "it keeps what it has accepted", fromProbation, "S", func(w *world, in Input, step step1) []Output {
		clear(w.sm.accepted)
		return step(in)
	}},

	{6, "the unfit is welcome", there, "P", hearing(func(w *world, in Unfit) []Input { return []Input{Greeted{Welcome: &wire.Welcome{Version: 1}}} })},
	{6, "whoever comes is welcome", there, "P", instead(func(w *world, out Greet, step step1) []Output {
		return step(Greeted{Welcome: &wire.Welcome{Version: 1}})
	})},
	{6, "welcome before HELLO", there, "P", func(w *world, in Input, step step1) []Output {
		if _, ok := in.(Begin); ok {
			return append(step(in), Send{&wire.Welcome{Version: 1}})
		}
		return step(in)
	}},
}
