package protocol

import (
	"baton/handoff/wire"
	"baton/internal/session"

	"github.com/fxamacker/cbor/v2"
)

// ID names a session.
type ID = session.ID

// An Input is something that has happened. An Output is something to do. Outputs are done in the order given. One that asks a question is
// the last of its step, and the next input is its answer, unless the answer is said to come later.
type (
	Input  interface{ input() }
	Output interface{ output() }
)

// What happens to either side.
type (
	// Received is a message from the other side.
	Received struct{ Message wire.Message }
	// PeerDied says that the other process has certainly ended.
	PeerDied struct{ How string }
	// Broken says that the channel is of no use any more: closed, or something came that is not a message. The other process may live.
	Broken struct{ Reason string }
	// Ended names sessions of ours that have ended.
	Ended struct{ IDs []ID }
	// Expired is a timer that was set and has run out.
	Expired struct{ Timer Timer }
	// Moved answers Move: the process is in that state.
	Moved struct{}
	// MoveRefused answers Move: the state machine or the journal did not allow it. A way back is never refused.
	MoveRefused struct{ Reason string }
	// Stop asks the process to end: what is ours is going to be closed.
	Stop struct{}
)

// What happens to the predecessor.
type (
	// Begin starts the conversation: a successor is being started.
	Begin struct{ Check bool }
	// Greeted answers Greet: the successor will do. Sessions are those of ours now.
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
	// Lent answers Lend: copies of these sockets were sent. Those left out have ended.
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
	// Opened names new sessions of ours.
	Opened struct{ IDs []ID }
	// NotAccepting answers StopAccepting. All sessions that were accepted have been named by Opened.
	NotAccepting struct{}
)

// What happens to the successor.
type (
	// Adopted answers Adopt.
	Adopted struct{}
	// NotAdopted answers Adopt: this cannot be done here.
	NotAdopted struct{ Reason string }
	// Borrowed answers Borrow.
	Borrowed struct{}
	// NotBorrowed answers Borrow. No socket of the batch was kept.
	NotBorrowed struct{ Reason string }
	// Took answers Take.
	Took struct {
		IDs     []ID
		Refused []wire.Refusal
	}
	// Promoted answers Promote: this process is the one that serves.
	Promoted struct{ Pause wire.Pause }
	// WentRound answers GoRound, later: every event loop has.
	WentRound struct{ N int }
	// Part asks for the end of probation, because this process is about to hand over itself, or to stop.
	Part struct{}
)

// What either side does.
type (
	// Send says something to the other side.
	Send struct{ Message wire.Message }
	// Move changes the state of the process; answered by Moved or MoveRefused.
	Move struct {
		To  State
		Why string
	}
	// SetTimer starts a timer, or starts it anew.
	SetTimer struct{ Timer Timer }
	// Fence ends the other process for certain; answered by PeerDied, later.
	Fence struct{ Reason string }
	// Accept has the listeners accept.
	Accept struct{}
	// Report tells people of something that is wrong and harms nobody.
	Report struct{ Text string }
	// End says that the conversation is over.
	End struct {
		Result Result
		Reason string
	}
)

// What the predecessor does.
type (
	// Greet asks whether a successor that says this will do; answered by Greeted or Unfit.
	Greet struct{ Hello *wire.Hello }
	// Intend writes to the journal that a batch is about to be lent.
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
	// Detach drops what is left of sessions given, but the copies of their sockets.
	Detach struct{ IDs []ID }
	// Release closes the copies of these sessions' sockets.
	Release struct{ IDs []ID }
	// Unlend says that nobody else has copies of these sessions' sockets.
	Unlend struct{ IDs []ID }
	// StopAccepting is answered by NotAccepting.
	StopAccepting struct{}
	// Handed tells that the successor accepts: the handoff has succeeded, but for what follows in probation.
	Handed struct{ Pause wire.Pause }
	// Finish ends sessions that did not come to rest in time.
	Finish struct{ IDs []ID }
	// Recall takes back the listeners' names from a successor that has died, and what can be taken of these sessions that were its.
	Recall struct{ IDs []ID }
)

// What the successor does.
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
	// Promote makes this process the one that serves the workspace; answered by Promoted.
	Promote struct{}
	// GoRound asks every event loop to go round; answered by WentRound.
	GoRound struct{ N int }
	// Parted says that the predecessor is gone, or has no more to do with us.
	Parted struct{}
)

// State is the part of the process's state machine that the conversation moves.
type State string

const (
	Serving      State = "Serving"
	Transferring State = "Transferring"
	Draining     State = "Draining"
	Exited       State = "Exited"
)

// A Timer is one of those that the driver keeps.
type Timer string

const (
	HelloTimer     Timer = "hello"     // the successor says HELLO
	AnswerTimer    Timer = "answer"    // the other side answers
	TotalTimer     Timer = "total"     // from HELLO to DONE
	RetryTimer     Timer = "retry"     // busy sessions are tried again
	DrainTimer     Timer = "drain"     // stragglers come to rest
	ProbationTimer Timer = "probation" // copies are kept
	BeatTimer      Timer = "beat"      // the successor is asked for a beat
	ExitTimer      Timer = "exit"      // a successor that was aborted exits
)

// A Result says how a handoff ended.
type Result string

const (
	ResultDone       Result = "done"        // the successor serves
	ResultChecked    Result = "checked"     // it would have worked
	ResultRolledBack Result = "rolled back" // the predecessor serves everything it had
	ResultRecalled   Result = "recalled"    // the predecessor serves again, after the successor's death
	ResultRescued    Result = "rescued"     // the successor serves, after the predecessor's death
	ResultGaveUp     Result = "gave up"     // the successor ends, having served nothing
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
func (GoRound) output()       {}
func (Parted) output()        {}
func (Handed) output()        {}
