package load

import (
	"math/rand/v2"
	"sync"
	"time"
)

// pileUp lets answers pile up unread, again and again until the load stops, or once if the client churns.
func (s *stream) pileUp(g *Group, _ time.Duration) error {
	wait := upTo(g.Pause) // at first, so that the piles do not all grow at once
	for s.l.pause(wait) {
		if err := s.pile(g); err != nil || g.Churn {
			return err
		}
		wait = upTo(g.Interval)
	}
	return nil
}

// pile sends a pile of pings, looks away, and then reads and verifies all answers. Pings are written by a goroutine of their own: the
// server stops reading when its output has piled up too high, and who then waits with writing before reading waits for ever.
func (s *stream) pile(g *Group) error {
	s.owe(g.Pile)
	written := make(chan error, 1)
	go func() { written <- s.writePile(g) }()

	s.l.pause(g.Pause/2 + upTo(g.Pause/2))
	s.heard = s.l.now()
	buf := pileBuffers.Get().(*[]byte)
	err := s.await(*buf)
	pileBuffers.Put(buf)
	if err != nil {
		_ = s.c.Close() // frees the writer
		<-written
		return err
	}
	// All answers are here, so all pings have been read; only a server that answers what it was not asked lets us wait.
	if err := s.c.SetWriteDeadline(time.Now().Add(s.l.cfg.Patience)); err != nil {
		<-written
		return s.lost("set deadline", err)
	}
	if err := <-written; err != nil {
		return s.lost("write", err)
	}
	s.sent += int64(g.Pile)
	return s.c.SetWriteDeadline(time.Time{})
}

// pileBuffers are for reading piles, so that a client which looks away holds none.
var pileBuffers = sync.Pool{New: func() any { b := make([]byte, maxRun); return &b }}

// writePile writes the pings of a pile: at once, or in odd pieces, of which the last is half a ping that comes late, when the other answers
// have long piled up.
func (s *stream) writePile(g *Group) error {
	whole := g.Pile
	if g.Split {
		whole -= len(ping) / 2
	}
	for sent := 0; sent < g.Pile; {
		if sent == whole {
			s.l.pause(upTo(time.Second))
			whole = g.Pile
		}
		phase := sent % len(ping)
		n := min(whole-sent, len(pings)-phase)
		if g.Split {
			n = 1 + rand.IntN(n)
		}
		if _, err := s.c.Write(pings[phase : phase+n]); err != nil {
			return err
		}
		if sent += n; g.Split {
			s.l.pause(upTo(5 * time.Millisecond))
		}
	}
	return nil
}
