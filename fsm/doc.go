// Package fsm says which step of a run's life may follow which.
//
// A [Machine] is in exactly one [State]. It changes by [Machine.Move] alone, one move at a time, and every move is offered to the
// journal before it takes effect:
//
//	m := fsm.New(fsm.Hooks{
//		Journal: func(mv fsm.Move) error { return record(mv) }, // before
//		Entered: func(mv fsm.Move) { announce(mv) },            // after
//	})
//	if err := m.Move(ctx, fsm.Serving, "first start"); err != nil { … }
//
// # Promises
//
//   - A move that is not in the table is refused with [ErrIllegal], and nothing changes.
//   - A forward move that the journal did not take is refused with [ErrRefused], and nothing changes.
//   - The way back is always open: a return to Serving, a rescue, a stop and an exit go on although the journal failed, and although the
//     caller's context has ended. [Move.Open] tells the hook so; [Move.Unrecorded] tells what the hook said.
//   - A hook that panics costs its own move at most, never the machine.
//
// # Caveats
//
// Moves wait for each other, so a Journal hook that never returns blocks every later move: let it bound its own wait, and not wait at all
// where Move.Open is set. It must not call Move; Entered may.
//
// The table is driven by github.com/looplab/fsm, whose traps this package steps around (see machine.go).
package fsm
