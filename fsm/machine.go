package fsm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	looplab "github.com/looplab/fsm"
)

var (
	// ErrRefused reports a forward move that the journal did not take, or whose context had ended. Nothing has changed. It wraps the
	// hook's error or the context's.
	ErrRefused = errors.New("fsm: move refused")
	// ErrHook reports that the Entered hook panicked. The move has happened.
	ErrHook = errors.New("fsm: Entered hook panicked")
)

// Hooks are told of every move, one call at a time and in the order of the moves. Either may be nil. Both may call State.
type Hooks struct {
	// Journal is called before the move takes effect. If it returns an error or panics, a forward move is refused; an open one goes on
	// (Move.Open). It must not call Move, and has to bound its own wait.
	Journal func(Move) error
	// Entered is called after the move has taken effect. It may call Move; that move's Entered comes after this one has returned.
	Entered func(Move)
}

// A Machine is one run's state. All its methods may be called from any goroutine.
type Machine struct {
	hooks Hooks
	inner *looplab.FSM

	moving sync.Mutex // held for the length of a move, Entered excepted

	mu         sync.Mutex // guards the two below; taken inside moving
	entered    []Move     // have happened, not yet announced
	announcing bool       // some goroutine is announcing
}

// New returns a Machine in Starting.
func New(h Hooks) *Machine {
	m := &Machine{hooks: h}
	var events looplab.Events
	for _, mv := range table {
		// An event is named after the state it leads to, so that the pair (event, state) is a row of the table.
		events = append(events, looplab.EventDesc{Name: string(mv.To), Src: []string{string(mv.From)}, Dst: string(mv.To)})
	}
	// The generic names only: looplab never calls a callback whose name it does not know, and does not say so.
	m.inner = looplab.NewFSM(string(Starting), events, looplab.Callbacks{"leave_state": m.leave, "enter_state": m.enter})
	return m
}

// State returns the state the machine is in. It never waits for a move or a hook: until a move takes effect, it is the old one.
func (m *Machine) State() State { return State(m.inner.Current()) }

// Move takes the machine to another state, for the reason why, and returns when that has happened and been announced (if another
// goroutine is announcing, that one does it). Moves wait for each other.
//
// The error is [ErrIllegal] if the table does not have the move, or [ErrRefused] if it is a forward one and the Journal hook failed or ctx
// had ended; nothing has changed then. [ErrHook] means that it has happened and an Entered hook panicked. An open move does not ask ctx.
func (m *Machine) Move(ctx context.Context, to State, why string) error {
	return m.move(ctx, to, why, false)
}

// Rescue is Move to Serving as a move that is never refused for want of a record: the predecessor has died, and this run keeps what it
// can prove. From any state that has no move to Serving it is [ErrIllegal].
func (m *Machine) Rescue(ctx context.Context, why string) error {
	return m.move(ctx, Serving, why, true)
}

func (m *Machine) move(ctx context.Context, to State, why string, open bool) error {
	if err := m.change(ctx, to, why, open); err != nil {
		return err
	}
	return m.announce()
}

// change makes the move, and leaves it in m.entered to be announced.
func (m *Machine) change(ctx context.Context, to State, why string, open bool) error {
	m.moving.Lock()
	defer m.moving.Unlock()

	mv := Move{From: m.State(), To: to, Why: why, Open: open || !Forward(m.State(), to)}
	if err := Check(mv.From, mv.To); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil && !mv.Open {
		return fmt.Errorf("%w: %s → %s: %w", ErrRefused, mv.From, mv.To, err)
	}
	// A context that ends during an event leaves looplab's machine "in transition" for good (looplab/fsm#115).
	err := m.inner.Event(context.WithoutCancel(ctx), string(to), &mv)
	if canceled := (looplab.CanceledError{}); errors.As(err, &canceled) {
		return fmt.Errorf("%w: %s → %s: %w", ErrRefused, mv.From, mv.To, canceled.Err)
	}
	return err
}

// leave is looplab's leave_state: the last moment at which a move can be refused.
func (m *Machine) leave(_ context.Context, e *looplab.Event) {
	mv := e.Args[0].(*Move)
	err := m.journal(*mv)
	switch {
	case err == nil:
	case mv.Open:
		mv.Unrecorded = err
	default:
		e.Cancel(err)
	}
}

// journal calls the hook. A panic that left leave_state would wedge looplab's machine, so it becomes an error here.
func (m *Machine) journal(mv Move) (err error) {
	if m.hooks.Journal == nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("journal hook panicked: %v", r)
		}
	}()
	return m.hooks.Journal(mv)
}

// enter is looplab's enter_state: the state has changed. The announcement waits until the moves' lock is free, so that Entered may move.
func (m *Machine) enter(_ context.Context, e *looplab.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entered = append(m.entered, *e.Args[0].(*Move))
}

// announce calls Entered for every move that has happened, in order. One goroutine at a time does so for all; a hook that moves finds
// itself to be that goroutine and returns at once.
func (m *Machine) announce() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.announcing {
		return nil
	}
	m.announcing = true
	defer func() { m.announcing = false }()

	var errs []error
	for len(m.entered) > 0 {
		mv := m.entered[0]
		m.entered = m.entered[1:]
		errs = append(errs, m.unlocked(mv))
	}
	return errors.Join(errs...)
}

// unlocked calls the Entered hook with m.mu given up meanwhile.
func (m *Machine) unlocked(mv Move) (err error) {
	m.mu.Unlock()
	defer m.mu.Lock()
	if m.hooks.Entered == nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %s: %v", ErrHook, mv, r)
		}
	}()
	m.hooks.Entered(mv)
	return nil
}
