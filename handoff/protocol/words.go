package protocol

import "baton/internal/session"

// ID names a session.
type ID = session.ID

// State is the part of the process's state machine that the conversation moves.
type State string

const (
	Serving      State = "Serving"
	Transferring State = "Transferring"
	Draining     State = "Draining"
	Exited       State = "Exited"
)

// A Timer is one of those that the driver keeps. None is ever stopped: one that runs out when nobody waits for it any more changes
// nothing.
type Timer string

const (
	HelloTimer     Timer = "hello"     // the successor says HELLO
	AnswerTimer    Timer = "answer"    // the other side answers
	TotalTimer     Timer = "total"     // from HELLO to DONE
	RetryTimer     Timer = "retry"     // busy sessions are tried again
	DrainTimer     Timer = "drain"     // stragglers come to rest
	FinishTimer    Timer = "finish"    // stragglers that were told to end have ended
	ProbationTimer Timer = "probation" // copies are kept
	BeatTimer      Timer = "beat"      // the successor is asked for a beat
	ReturnTimer    Timer = "return"    // the successor gives everything back
	ExitTimer      Timer = "exit"      // a successor that is not wanted any more exits of its own accord
)

// A Result says how a handoff ended.
type Result string

const (
	ResultDone       Result = "done"        // the successor serves
	ResultChecked    Result = "checked"     // it would have worked
	ResultRolledBack Result = "rolled back" // the predecessor serves everything it had, or that was given back to it
	ResultRecalled   Result = "recalled"    // the predecessor serves again, after the successor's death
	ResultRescued    Result = "rescued"     // the successor serves, after the predecessor's death
	ResultGaveUp     Result = "gave up"     // the successor ends, having served nothing
	ResultReturned   Result = "returned"    // the successor ends, having given back what it served
)

// Options are the sizes and numbers that shape a handoff.
type Options struct {
	LendBatch  int // sessions whose sockets travel in one message, at most wire.MaxFDs
	OfferBatch int // sessions that are frozen together
	MaxOffers  int // offers that may wait for an answer
	Retries    int // times that a busy session is tried again before it is a straggler
}
