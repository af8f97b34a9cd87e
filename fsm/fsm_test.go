package fsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// at returns a machine in s, reached by legal moves of which h hears nothing.
func at(t testing.TB, s State, h Hooks) *Machine {
	t.Helper()
	var now Hooks
	m := New(Hooks{
		Journal: func(mv Move) error {
			if now.Journal == nil {
				return nil
			}
			return now.Journal(mv)
		},
		Entered: func(mv Move) {
			if now.Entered != nil {
				now.Entered(mv)
			}
		},
	})
	for _, to := range path(s) {
		if err := m.Move(ctx, to, "set up"); err != nil {
			t.Fatalf("on the way to %s: %v", s, err)
		}
	}
	now = h
	return m
}

func path(s State) []State {
	switch s {
	case Starting:
		return nil
	case Adopting:
		return []State{Adopting}
	case Exited:
		return []State{Exited}
	}
	life := []State{Serving, Preparing, Transferring, Draining}
	return life[:slices.Index(life, s)+1]
}

// The moves of docs and design, written out once more: the table must not grow or shrink unnoticed.
var legal = map[State][]State{
	Starting:     {Adopting, Serving, Exited},
	Adopting:     {Serving, Exited},
	Serving:      {Preparing, Draining},
	Preparing:    {Transferring, Serving},
	Transferring: {Draining, Serving},
	Draining:     {Serving, Exited},
}

// Those that may be refused for want of a record.
var forward = map[[2]State]bool{
	{Starting, Adopting}: true, {Starting, Serving}: true, {Adopting, Serving}: true,
	{Serving, Preparing}: true, {Preparing, Transferring}: true, {Transferring, Draining}: true,
}

func TestEveryPairOfStates(t *testing.T) {
	broken := errors.New("disk full")
	for _, from := range States() {
		for _, to := range append(States(), "Nowhere", "") {
			t.Run(fmt.Sprintf("%s-%s", from, to), func(t *testing.T) {
				isLegal := slices.Contains(legal[from], to)
				isForward := forward[[2]State{from, to}]
				if err := Check(from, to); isLegal != (err == nil) || !isLegal && !errors.Is(err, ErrIllegal) {
					t.Errorf("Check = %v, want legal %t", err, isLegal)
				}
				if got := Forward(from, to); got != isForward {
					t.Errorf("Forward = %t, want %t", got, isForward)
				}

				m := at(t, from, Hooks{})
				if err := m.Move(ctx, to, ""); isLegal != (err == nil) || !isLegal && !errors.Is(err, ErrIllegal) {
					t.Errorf("Move = %v, want legal %t", err, isLegal)
				}
				if want := either(isLegal, to, from); m.State() != want {
					t.Errorf("after the move: %s, want %s", m.State(), want)
				}

				m = at(t, from, Hooks{Journal: func(Move) error { return broken }})
				switch err := m.Move(ctx, to, ""); {
				case isForward && (!errors.Is(err, ErrRefused) || !errors.Is(err, broken)):
					t.Errorf("Move with a broken journal = %v, want ErrRefused wrapping the hook's error", err)
				case isLegal && !isForward && err != nil:
					t.Errorf("Move with a broken journal = %v, want the way back to be open", err)
				}
				if want := either(isLegal && !isForward, to, from); m.State() != want {
					t.Errorf("after the move with a broken journal: %s, want %s", m.State(), want)
				}
			})
		}
	}
}

func either(cond bool, yes, no State) State {
	if cond {
		return yes
	}
	return no
}

func TestEveryStateHasAMeaning(t *testing.T) {
	for _, s := range States() {
		if s.Meaning() == "" {
			t.Errorf("%s has no meaning", s)
		}
	}
	if State("Nowhere").Meaning() != "" {
		t.Error("a string that is no state has a meaning")
	}
}

func TestHooksSeeTheMove(t *testing.T) {
	var m *Machine
	var log []string
	m = New(Hooks{
		Journal: func(mv Move) error { log = append(log, fmt.Sprint("journal ", mv, " in ", m.State())); return nil },
		Entered: func(mv Move) { log = append(log, fmt.Sprint("entered ", mv, " in ", m.State())) },
	})
	if err := m.Move(ctx, Serving, "first start"); err != nil {
		t.Fatal(err)
	}
	want := []string{"journal Starting → Serving: first start in Starting", "entered Starting → Serving: first start in Serving"}
	if diff := cmp.Diff(want, log); diff != "" {
		t.Error(diff)
	}
}

func TestUnrecordedMoveSaysSo(t *testing.T) {
	broken := errors.New("disk full")
	var seen []Move
	m := at(t, Preparing, Hooks{Journal: func(Move) error { return broken }, Entered: func(mv Move) { seen = append(seen, mv) }})
	if err := m.Move(ctx, Serving, "gave up"); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || !seen[0].Open || !errors.Is(seen[0].Unrecorded, broken) {
		t.Errorf("Entered saw %+v, want one open move that is unrecorded for %v", seen, broken)
	}
}

func TestRescueIsNeverRefused(t *testing.T) {
	h := Hooks{Journal: func(Move) error { return errors.New("disk full") }}
	m := at(t, Adopting, h)
	if err := m.Move(ctx, Serving, "all is here"); !errors.Is(err, ErrRefused) {
		t.Fatalf("the same move, not as a rescue: %v, want ErrRefused", err)
	}
	if err := m.Rescue(ctx, "predecessor died"); err != nil || m.State() != Serving {
		t.Errorf("Rescue = %v in %s, want Serving", err, m.State())
	}
	if err := m.Rescue(ctx, "again"); !errors.Is(err, ErrIllegal) {
		t.Errorf("Rescue from Serving = %v, want ErrIllegal", err)
	}
}

func TestContextThatHasEnded(t *testing.T) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	m := at(t, Serving, Hooks{})
	if err := m.Move(ended, Preparing, ""); !errors.Is(err, ErrRefused) || !errors.Is(err, context.Canceled) {
		t.Errorf("forward move = %v, want ErrRefused and context.Canceled", err)
	}
	if err := m.Move(ctx, Preparing, ""); err != nil {
		t.Fatalf("the machine is wedged: %v", err)
	}
	if err := m.Move(ended, Serving, ""); err != nil || m.State() != Serving {
		t.Errorf("way back = %v in %s, want Serving", err, m.State())
	}
}

// looplab/fsm#115: a context that ends within a move used to wedge the machine.
func TestContextEndingInAHook(t *testing.T) {
	soon, cancel := context.WithCancel(ctx)
	m := at(t, Serving, Hooks{Journal: func(Move) error { cancel(); return nil }})
	if err := m.Move(soon, Preparing, ""); err != nil || m.State() != Preparing {
		t.Fatalf("Move = %v in %s; it had begun, and should end", err, m.State())
	}
	if err := m.Move(ctx, Transferring, ""); err != nil {
		t.Errorf("the machine is wedged: %v", err)
	}
}

func TestPanicInJournal(t *testing.T) {
	m := at(t, Serving, Hooks{Journal: func(mv Move) error { panic("bug in " + string(mv.To)) }})
	if err := m.Move(ctx, Preparing, ""); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "bug in Preparing") {
		t.Errorf("forward move = %v, want ErrRefused with the panic's words", err)
	}
	if m.State() != Serving {
		t.Fatalf("in %s, want Serving", m.State())
	}
	if err := m.Move(ctx, Draining, ""); err != nil || m.State() != Draining {
		t.Errorf("a stop = %v in %s, want Draining", err, m.State())
	}
}

func TestPanicInEntered(t *testing.T) {
	m := at(t, Serving, Hooks{Entered: func(mv Move) { panic("bug") }})
	if err := m.Move(ctx, Preparing, ""); !errors.Is(err, ErrHook) || m.State() != Preparing {
		t.Errorf("Move = %v in %s, want ErrHook in Preparing", err, m.State())
	}
	if err := m.Move(ctx, Serving, ""); !errors.Is(err, ErrHook) || m.State() != Serving {
		t.Errorf("the machine is wedged: %v in %s", err, m.State())
	}
}

func TestEnteredMayMove(t *testing.T) {
	var m *Machine
	var order []string
	m = at(t, Preparing, Hooks{Entered: func(mv Move) {
		order = append(order, "begin "+string(mv.To))
		if mv.To == Serving {
			if err := m.Move(ctx, Draining, "then stop"); err != nil {
				t.Error(err)
			}
		}
		order = append(order, "end "+string(mv.To))
	}})
	if err := m.Move(ctx, Serving, "way back first"); err != nil {
		t.Fatal(err)
	}
	want := []string{"begin Serving", "end Serving", "begin Draining", "end Draining"}
	if diff := cmp.Diff(want, order); diff != "" || m.State() != Draining {
		t.Errorf("in %s, hooks (-want +got):\n%s", m.State(), diff)
	}
}

func TestStateDoesNotWaitForAHook(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	m := at(t, Serving, Hooks{Journal: func(Move) error { close(reached); <-release; return nil }})
	moved := make(chan error)
	go func() { moved <- m.Move(ctx, Preparing, "") }()
	<-reached
	state := make(chan State)
	go func() { state <- m.State() }()
	select {
	case s := <-state:
		if s != Serving {
			t.Errorf("State = %s while the move is being journaled, want Serving", s)
		}
	case <-time.After(5 * time.Second):
		t.Error("State waits for the Journal hook")
	}
	close(release)
	if err := <-moved; err != nil {
		t.Error(err)
	}
}

// Many goroutines push at one machine: exactly one wins each race, hooks never overlap, and the moves form one line.
func TestConcurrentMoves(t *testing.T) {
	var line []Move // unguarded: the race detector sees hooks that overlap
	m := New(Hooks{Entered: func(mv Move) { line = append(line, mv) }})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				for _, to := range []State{Serving, Preparing, Transferring} {
					if err := m.Move(ctx, to, ""); err != nil && !errors.Is(err, ErrIllegal) {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	checkLine(t, Starting, line, m.State())
}

// checkLine says whether moves follow each other from one state to another.
func checkLine(t interface{ Errorf(string, ...any) }, from State, line []Move, to State) {
	at := from
	for i, mv := range line {
		if mv.From != at || Check(mv.From, mv.To) != nil {
			t.Errorf("move %d is %v, from %s", i, mv, at)
		}
		at = mv.To
	}
	if at != to {
		t.Errorf("the moves end in %s, the machine is in %s", at, to)
	}
}

// Whatever is asked, by hooks that fail and panic: the machine is where the announced moves lead, what is announced was offered to the
// journal first, and from wherever it is there is an open way to Exited.
func TestAnySequence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var offered, line []Move
		var fail string
		m := New(Hooks{
			Journal: func(mv Move) error {
				offered = append(offered, mv)
				switch fail {
				case "error":
					return errors.New("disk full")
				case "panic":
					panic("bug")
				}
				return nil
			},
			Entered: func(mv Move) { mv.Unrecorded = nil; line = append(line, mv) },
		})
		for range rapid.IntRange(1, 30).Draw(t, "length") {
			fail = rapid.SampledFrom([]string{"", "", "error", "panic"}).Draw(t, "journal")
			before, to := m.State(), rapid.SampledFrom(States()).Draw(t, "to")
			err := m.Move(ctx, to, "")
			if (err == nil) != (m.State() == to && before != to) {
				t.Fatalf("%s → %s: %v, now in %s", before, to, err, m.State())
			}
			if err != nil && m.State() != before {
				t.Fatalf("%s → %s failed (%v) and left %s", before, to, err, m.State())
			}
		}
		checkLine(t, Starting, line, m.State())
		fail = "error"
		for _, to := range []State{Serving, Draining, Exited} {
			_ = m.Move(ctx, to, "leave") // where it does not apply, the next does
		}
		if err := m.Move(ctx, Exited, "leave"); m.State() != Exited {
			t.Fatalf("no open way out of %s: %v", m.State(), err)
		}
		for _, mv := range line {
			if !slices.Contains(offered, mv) {
				t.Fatalf("%v was announced and never offered to the journal", mv)
			}
		}
	})
}
