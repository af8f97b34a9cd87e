// Package conn serves long-lived connections from an event loop, in a way that lets a whole connection be picked up and put down
// again in another process.
//
// Between frames, a session is only data. A [Handler] is called when input waits, consumes the whole frames that are there, and
// returns; no goroutine, stack or library buffer belongs to the session in between. What is left is a socket, input that has been read
// and not consumed, output that has been accepted and not sent, a handful of numbers, and whatever the handler itself keeps.
//
//	type Ping struct{}
//
//	func (Ping) Serve(c *conn.Conn) error {
//		for {
//			frame, err := c.Peek(4) // conn.ErrMore: call again when more is here
//			if err != nil {
//				return err
//			}
//			if string(frame) != "ping" {
//				return fmt.Errorf("%w: %q", ErrFrame, frame)
//			}
//			c.Discard(4)
//			if _, err := c.Write(pong); err != nil {
//				return err
//			}
//		}
//	}
//
// # Moving
//
// The process that has the sessions (the giver) and the one that gets them (the receiver) make these calls, in this order; package
// handoff does it for a whole server.
//
//	giver                         receiver
//	Lend      copies of sockets → Borrow       the giver still serves
//	Freeze    states            → Take         nobody reads or writes
//	Give      late output       → Own          the receiver serves
//	Release   drops its copies                 or: Thaw, and the giver serves again
//
// # Promises
//
//   - At any moment at most one process reads or writes a session: the giver until Give, the receiver from Own on.
//   - A byte that Write accepted is sent once and in order, whichever process sends it; after Give, Write on the giver's side returns
//     [ErrMoved] and has accepted nothing.
//   - Socket options live in the socket and are never touched by a move.
//   - Who asks for much and is slow to read the answers is held back, not ended: above a high-water mark of output, a session's input is
//     neither read nor shown to its handler.
//
// # Caveats
//
// Linux only. TCP only. Write accepts bytes before the socket does: what was accepted and not yet sent is lost with its process. A handler
// runs on the loop that all others wait for, unless its protocol says that it may block.
package conn

import _ "baton/internal/linux"
