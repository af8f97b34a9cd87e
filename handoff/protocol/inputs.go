package protocol

import (
	"baton/handoff/wire"

	"github.com/fxamacker/cbor/v2"
)

// An Input is something that has happened.
type Input interface{ input() }

// What happens to either side.
type (
	// Begin starts the conversation. For the predecessor: a successor is being started, or has come. Check asks for a dry run.
	Begin struct{ Check bool }
	// Received is a message from the other side.
	Received struct{ Message wire.Message }
	// Broken says that nothing more comes from the channel: it was closed, or something came that is not a message. The other process may
	// live.
	Broken struct{ Reason string }
	// PeerDied says that the other process has certainly ended. What it had said before may still come; Broken comes after that.
	PeerDied struct{ How string }
	// Ended names sessions of ours that have ended. All that end are named, after they were named by Greeted or Opened.
	Ended struct{ IDs []ID }
	// Expired is a timer that was set and has run out.
	Expired struct{ Timer Timer }
	// Moved answers Move: the process is in that state.
	Moved struct{}
	// MoveRefused answers Move: the state machine or the journal did not allow it.
	MoveRefused struct{ Reason string }
	// Stop asks the process to end: what is ours is going to be closed.
	Stop struct{}
)

// What happens to the predecessor. Lent, Frozen, Gave, Opened and NotAccepting happen to the successor, too, when it gives back.
type (
	// Greeted answers Greet: the successor will do. Sessions are those of ours now; from here new ones are named by Opened.
	Greeted struct {
		Welcome  *wire.Welcome
		Sessions []ID
	}
	// Unfit answers Greet: the successor will not do.
	Unfit struct{ Reason string }
	// Journaled answers Intend, later: the intent to lend this batch is in the journal.
	Journaled struct{ Batch int }
	// NotJournaled answers Intend, later: it could not be written.
	NotJournaled struct {
		Batch  int
		Reason string
	}
	// Lent answers Lend: copies of these sockets were sent, or will never arrive because the channel is broken. Those left out have ended.
	Lent struct {
		Batch int
		IDs   []ID
	}
	// Frozen answers Freeze. Sessions that are in none of the lists have ended.
	Frozen struct {
		FrozenAt int64
		IDs      []ID
		States   []cbor.RawMessage
		Busy     []ID
		Failed   map[ID]string
	}
	// Gave answers LetGo: the sessions are not ours any more.
	Gave struct{ Lates []cbor.RawMessage }
	// Opened names new sessions of ours. One that Greeted has named may be named again.
	Opened struct{ IDs []ID }
	// NotAccepting answers StopAccepting. All sessions that were accepted have been named by Opened, and only that, or Ended, may have
	// come between the two.
	NotAccepting struct{}
)

// What happens to the successor. Borrowed, NotBorrowed and Took happen to the predecessor, too, when it is given back to.
type (
	// Adopted answers Adopt.
	Adopted struct{}
	// NotAdopted answers Adopt: this cannot be done here.
	NotAdopted struct{ Reason string }
	// Borrowed answers Borrow.
	Borrowed struct{}
	// NotBorrowed answers Borrow. No socket of the batch was kept.
	NotBorrowed struct{ Reason string }
	// Took answers Take: each session is in one of the lists.
	Took struct {
		IDs     []ID
		Refused []wire.Refusal
	}
	// Promoted answers Promote: this process is the one that serves.
	Promoted struct{ Pause wire.Pause }
	// WentRound answers GoRound, later: every event loop has.
	WentRound struct{ N int }
	// Part asks for the end of probation, because this process is about to hand over itself. Stop does the same.
	Part struct{}
)

func (Received) input()     {}
func (PeerDied) input()     {}
func (Broken) input()       {}
func (Ended) input()        {}
func (Expired) input()      {}
func (Moved) input()        {}
func (MoveRefused) input()  {}
func (Stop) input()         {}
func (Begin) input()        {}
func (Greeted) input()      {}
func (Unfit) input()        {}
func (Journaled) input()    {}
func (NotJournaled) input() {}
func (Lent) input()         {}
func (Frozen) input()       {}
func (Gave) input()         {}
func (Opened) input()       {}
func (NotAccepting) input() {}
func (Adopted) input()      {}
func (NotAdopted) input()   {}
func (Borrowed) input()     {}
func (NotBorrowed) input()  {}
func (Took) input()         {}
func (Promoted) input()     {}
func (WentRound) input()    {}
func (Part) input()         {}
