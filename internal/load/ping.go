package load

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"time"
)

// pingAlong sends a ping each interval and reads in between, until the load stops or a churning client has sent its share. The first
// ping is due at next. It waits for the next moment to send inside the read, so that a connection that ends while nothing is owed is
// noticed when it ends, not at the next ping.
func (s *stream) pingAlong(g *Group, next time.Duration) error {
	last := int64(math.MaxInt64)
	if g.Churn {
		last = s.sent + (1+rand.Int64N(10))*int64(len(ping))
	}
	for {
		var err error
		if next, err = s.sendDue(g, next, last); err != nil || s.sent >= last {
			return err
		}
		wake := next
		if s.owed > s.got {
			wake = s.heard + s.l.cfg.Patience
			if s.hasRoom(g) {
				wake = min(wake, next)
			}
		}
		if err := s.arm(wake); err != nil {
			return err
		}
		if s.l.isStopping() { // looked at after arm, see poke
			return nil
		}
		err = s.read(s.small[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
			if s.owed > s.got && s.l.now() >= s.heard+s.l.cfg.Patience {
				err = s.readPatiently(s.small[:], "pong")
			}
		}
		if err != nil {
			return err
		}
	}
}

// hasRoom reports whether another ping may be sent before the next answer.
func (s *stream) hasRoom(g *Group) bool { return s.owed-s.got <= int64((g.Pipeline-1)*len(pong)) }

// sendDue sends what is due by now and has room, and returns when the next piece is due. It stops once last bytes have been sent.
func (s *stream) sendDue(g *Group, next time.Duration, last int64) (time.Duration, error) {
	for s.sent < last && s.hasRoom(g) && !s.l.isStopping() {
		now := s.l.now()
		if now < next {
			break
		}
		// A ping is late either because the server had yet to answer the one before, and then its latency counts from when it was due;
		// or because this process woke late, which is nothing that the server did.
		from := now
		if next < s.heard {
			from = next
		}
		s.meter.late(now - max(next, s.heard))
		n, gap := len(ping), g.Interval
		if g.Split {
			n, gap = s.piece(g.Interval)
		}
		if err := s.send(n, from); err != nil {
			return next, err
		}
		next += gap
	}
	return next, nil
}

// piece chooses how many bytes a splitting client sends now, and how long it waits then. Pieces may hold the end of one ping and the
// beginning of the next.
func (s *stream) piece(interval time.Duration) (n int, gap time.Duration) {
	n = 1 + rand.IntN(len(ping))
	switch whole := (s.sent+int64(n))%int64(len(ping)) == 0; {
	case whole:
		return n, interval
	case rand.IntN(10) == 0:
		return n, upTo(time.Second)
	default:
		return n, upTo(20 * time.Millisecond)
	}
}
