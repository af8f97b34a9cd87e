package protocol

import "baton/handoff/wire"

// An Output is something to do.
type Output interface{ output() }

// What either side does.
type (
	// Send says something to the other side.
	Send struct{ Message wire.Message }
	// Move changes the state of the process; answered by Moved or MoveRefused. A Rescue may not be refused for want of a journal record,
	// nor may a way back.
	Move struct {
		To     State
		Why    string
		Rescue bool // the predecessor has died
	}
	// SetTimer starts a timer, or starts it anew: what was left of its earlier time does not run out any more.
	SetTimer struct{ Timer Timer }
	// Fence ends the other process for certain; PeerDied follows.
	Fence struct{ Reason string }
	// Accept has the listeners accept.
	Accept struct{}
	// Report tells people of something that is wrong and harms nobody.
	Report struct{ Text string }
	// End says that the conversation is over. Inputs that come after it change nothing.
	End struct {
		Result Result
		Reason string
	}
)

// What the predecessor does. Lend, Freeze, Thaw, LetGo, Detach, StopAccepting and Finish are the successor's, too, when it gives back; and
// Unlend and Recall, if the predecessor dies meanwhile.
type (
	// Greet asks whether a successor that says this will do; answered by Greeted or Unfit.
	Greet struct{ Hello *wire.Hello }
	// Intend writes to the journal that a batch is about to be lent; answered by Journaled or NotJournaled, later.
	Intend struct {
		Batch int
		IDs   []ID
	}
	// Lend sends copies of these sessions' sockets; answered by Lent.
	Lend struct {
		Batch int
		IDs   []ID
	}
	// Freeze stops these sessions; answered by Frozen.
	Freeze struct{ IDs []ID }
	// Thaw takes frozen sessions back.
	Thaw struct{ IDs []ID }
	// LetGo gives frozen sessions away; answered by Gave.
	LetGo struct{ IDs []ID }
	// Detach drops what is left of sessions given, but the copies of their sockets. There is no hurry.
	Detach struct{ IDs []ID }
	// Release closes the copies of these sessions' sockets.
	Release struct{ IDs []ID }
	// Unlend says that nobody else has copies of these sessions' sockets any more.
	Unlend struct{ IDs []ID }
	// StopAccepting is answered by NotAccepting.
	StopAccepting struct{}
	// Handed tells that the successor accepts: the handoff has succeeded, but for what follows in probation.
	Handed struct{ Pause wire.Pause }
	// Finish ends sessions that did not come to rest in time. Each is named by Ended when it has.
	Finish struct{ IDs []ID }
	// Recall takes back the listeners' names from a successor that has died, and what can be taken of these sessions that were its.
	Recall struct{ IDs []ID }
)

// What the successor does. Borrow, Take, Own and Drop are the predecessor's, too, when it is given back to.
type (
	// Greeting sends HELLO.
	Greeting struct{}
	// Adopt takes over listeners; answered by Adopted or NotAdopted.
	Adopt struct{ Welcome *wire.Welcome }
	// Borrow takes the sockets that came with this message; answered by Borrowed or NotBorrowed.
	Borrow struct{ Lend *wire.Lend }
	// Take makes sessions of states; answered by Took.
	Take struct{ Offer *wire.Offer }
	// Own serves sessions from now on. They have been frozen since FrozenAt.
	Own struct {
		Give     *wire.Give
		FrozenAt int64
	}
	// Drop closes borrowed sockets.
	Drop struct{ IDs []ID }
	// Rescue keeps what can be proved of sessions that were lent, or taken, by a predecessor that has died.
	Rescue struct{ IDs []ID }
	// Promote makes this process the one that serves the workspace; answered by Promoted.
	Promote struct{}
	// GoRound asks every event loop to go round; answered by WentRound.
	GoRound struct{ N int }
	// Parted says that the predecessor is gone, or has no more to do with us.
	Parted struct{}
)

func (Send) output()          {}
func (Move) output()          {}
func (SetTimer) output()      {}
func (Fence) output()         {}
func (Accept) output()        {}
func (Report) output()        {}
func (End) output()           {}
func (Greet) output()         {}
func (Intend) output()        {}
func (Lend) output()          {}
func (Freeze) output()        {}
func (Thaw) output()          {}
func (LetGo) output()         {}
func (Detach) output()        {}
func (Release) output()       {}
func (Unlend) output()        {}
func (StopAccepting) output() {}
func (Finish) output()        {}
func (Recall) output()        {}
func (Greeting) output()      {}
func (Adopt) output()         {}
func (Borrow) output()        {}
func (Take) output()          {}
func (Own) output()           {}
func (Drop) output()          {}
func (Promote) output()       {}
func (Rescue) output()        {}
func (GoRound) output()       {}
func (Parted) output()        {}
func (Handed) output()        {}
