// Package load is the crowd at the other end: it holds many pinging connections to one server, checks every byte that comes back, and
// says what the crowd felt.
//
// The protocol is the demo's: four bytes "ping" are answered by four bytes "pong", in order. A server that replaces itself must not be
// noticed, so the verdict is strict. There are four ways to fail, and a Report counts each:
//
//	drop     a connection ended that the client had not ended: EOF, reset, or no answer within Config.Patience
//	wrong    a byte came that differs from the expected stream, or came though nothing was owed
//	refused  a dial failed
//	cut      Stop ran out of time before this connection could be checked to its end
//
// A Load looks like this:
//
//	l, err := load.Start(ctx, load.Config{
//		Addr:   "127.0.0.1:7000",
//		Groups: []load.Group{{N: 900}, {N: 50, Split: true}, {N: 20, Slow: true}, {N: 30, Churn: true}},
//	})
//	if err != nil {
//		return err
//	}
//	// upgrade the server; look at l.Live() meanwhile
//	report := l.Stop(ctx)
//	if !report.OK() { … report.Failures say which, when and what … }
//
// # Latency
//
// Latency is corrected for coordinated omission: where a ping could not be sent because the one before was still unanswered, it counts
// from the moment the ping was due by the schedule. A server that stands still for a second is therefore charged for every ping that
// should have been sent in that second. What made a ping late on the client's own side is not charged (the Go scheduler's timers alone
// are up to a millisecond late, when it is idle) but told apart, as Report.OwnDelay: if that is large, the machine was too busy to
// measure on. The client's lateness in reading is in the latency; it cannot be told apart.
//
// # Limits
//
// A lost pong cannot be told from a late one until Patience is over, because pongs carry no number. A connection that has failed is over:
// only churning ones are dialled again. One Load dials one address, so the local ports (about 28,000 by default) limit it, and so does
// the limit on open files, which Start checks.
package load
