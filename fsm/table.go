package fsm

import (
	"errors"
	"fmt"
)

// ErrIllegal reports a move that the table does not have. Nothing has changed.
var ErrIllegal = errors.New("fsm: illegal move")

// A Move is one change of state.
type Move struct {
	From, To State
	Why      string // for people: what asked for it

	// Open says that the move goes on even if it cannot be recorded: the way back, a rescue, a stop, an exit.
	Open bool
	// Unrecorded is why the Journal hook did not take an open move; nil if it did, or was not asked yet.
	Unrecorded error
}

func (m Move) String() string {
	if m.Why == "" {
		return fmt.Sprintf("%s → %s", m.From, m.To)
	}
	return fmt.Sprintf("%s → %s: %s", m.From, m.To, m.Why)
}

// table is every legal move, with the usual reason for it. Open ones lead back or out, and so may not be refused.
var table = []Move{
	{From: Starting, To: Serving, Why: "first start: no predecessor was found"},
	{From: Starting, To: Adopting, Why: "a predecessor was found"},
	{From: Starting, To: Exited, Why: "gave up before it served", Open: true},
	{From: Adopting, To: Serving, Why: "everything has arrived; or the predecessor died (rescue, never refused)"},
	{From: Adopting, To: Exited, Why: "the handoff was aborted", Open: true},
	{From: Serving, To: Preparing, Why: "an upgrade was asked for"},
	{From: Serving, To: Draining, Why: "a plain stop", Open: true},
	{From: Preparing, To: Transferring, Why: "the successor is ready and both sides agree"},
	{From: Preparing, To: Serving, Why: "way back: the successor failed, or a stop was asked for", Open: true},
	{From: Transferring, To: Draining, Why: "the last batch was given"},
	{From: Transferring, To: Serving, Why: "way back: the successor failed, or a stop was asked for", Open: true},
	{From: Draining, To: Serving, Why: "way back: the successor failed in probation", Open: true},
	{From: Draining, To: Exited, Why: "probation is over; or the stop has flushed", Open: true},
}

// Moves returns the table: every legal move, its usual reason, and whether it is open. The slice is the caller's.
func Moves() []Move { return append([]Move(nil), table...) }

// Check returns nil if the table has the move, and otherwise an error that is [ErrIllegal] and names both states.
func Check(from, to State) error {
	if _, ok := find(from, to); !ok {
		return fmt.Errorf("%w: %s → %s", ErrIllegal, from, to)
	}
	return nil
}

// Forward says whether the move is legal and may be refused for want of a journal record. Adopting → Serving is forward; the same move
// as a rescue is not, see [Machine.Rescue].
func Forward(from, to State) bool {
	m, ok := find(from, to)
	return ok && !m.Open
}

func find(from, to State) (Move, bool) {
	for _, m := range table {
		if m.From == from && m.To == to {
			return m, true
		}
	}
	return Move{}, false
}
