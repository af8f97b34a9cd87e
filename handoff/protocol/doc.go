// Package protocol holds both sides of the conversation in which a server hands over its sessions, as machines without I/O: each is
// given what has happened and answers with what to say and do next. Real sockets, sessions, clocks and processes are driven by package
// handoff.
//
//	predecessor                                         successor
//	                     ←  HELLO       I am ready
//	WELCOME   listeners  →
//	LEND k    sockets    →              registers them
//	OFFER     states     →              checks and loads them      sessions are frozen
//	                     ←  TAKE        ids                        from OFFER ...
//	GIVE      ids        →              serves                     ... to GIVE
//	    LEND, OFFER, TAKE and GIVE repeat, overlapping, until nothing is left
//	DONE      I do not accept any more  →
//	                     ←  DONE        I accept
//	    stragglers follow one by one; copies of the sockets are kept, and BEATs asked for
//	BYE       copies are dropped        →
//	                     ←  BYE
//
// CLOSED goes either way for sessions that end meanwhile, ABORT for a handoff that does. After an ABORT, LEND, OFFER, TAKE and GIVE go the
// other way, until DONE has: a successor that lives gives back what it has. docs/protocol.md says more, and testdata has
// transcripts of what both machines do and say.
//
// # Driving a machine
//
// Whoever drives a machine gives it one Input at a time and does what it answers, in order, before the next. It owes it this:
//
//   - An Output that asks a question is the last of its step, and the next Input is the answer: Greet, Move, Lend, Freeze, LetGo,
//     StopAccepting, Adopt, Borrow, Take and Promote. The answers to Intend and GoRound come later, in any order.
//   - Messages go in as they came; Broken follows the last of them, once. PeerDied may go in before what the dead process had said: the
//     machine waits for Broken before it decides on anything.
//   - Sessions are named by Opened (or Greeted) before they are by Ended.
//   - After End nothing is to be done any more.
//
// The machines are deterministic: the same inputs give the same outputs. Nothing that the other side says, in whatever order, makes one
// panic. They are not safe for concurrent use.
package protocol
