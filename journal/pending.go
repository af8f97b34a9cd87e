package journal

import (
	"encoding/json"
	"time"
)

// pending is what has happened and is not in the file yet. Its size is bounded: events by a limit, rows by the sessions that live or have a
// row, since a second word about a session takes the place of the first.
type pending struct {
	limit, keep int // events that may wait; short-lived sessions to remember

	events []waiting
	lost   uint64 // events after those, for which there was no room; the batch ends with a Gap
	run    *Run   // changed, to be written

	opened map[ID]*Session // no row yet
	ended  map[ID]ending   // have a row, to be removed
	places map[ID]Place    // have a row, to be changed
	recent []ClosedSession
	counts Counters // to be added to the file's

	flushed []func(error) // waiting for this batch
	settled bool          // a handoff or the run ended: force the file to the disk
}

// waiting is an event in the queue.
type waiting struct {
	wall    time.Time
	mono    int64
	handoff string
	kind    string
	data    json.RawMessage
	asker   *asker // nil: recorded, not intended
	seq     uint64 // once it is in the file
}

// asker is whoever intended an event and waits for the answer.
type asker struct {
	done    func(error)
	settled bool // the answer is on its way; guarded by Journal.mu
	left    bool // nobody waits any more; guarded by Journal.mu
}

// ending is how a session with a row ended.
type ending struct {
	at            time.Time
	reason        string
	read, written uint64
}

func newPending(limit, keep int) *pending {
	return &pending{limit: limit, keep: keep, opened: map[ID]*Session{}, ended: map[ID]ending{}, places: map[ID]Place{}}
}

// empty says that a commit would change nothing.
func (p *pending) empty() bool {
	return len(p.events) == 0 && p.lost == 0 && p.run == nil && len(p.opened) == 0 && len(p.ended) == 0 && len(p.places) == 0 &&
		len(p.recent) == 0 && p.counts == Counters{}
}

// event appends w if there is room. Once one was lost all are, until the batch is in the file: so a Gap stands exactly where they would.
func (p *pending) event(w waiting) (kept bool) {
	if p.lost > 0 || len(p.events) >= p.limit {
		p.lost++
		return false
	}
	p.events = append(p.events, w)
	return true
}

// drop takes out the event that a is waiting for.
func (p *pending) drop(a *asker) (found bool) {
	for i, w := range p.events {
		if w.asker == a {
			p.events = append(p.events[:i], p.events[i+1:]...)
			return true
		}
	}
	return false
}

// open notes a session that has come.
func (p *pending) open(s Session) {
	p.opened[s.ID] = &s
	delete(p.places, s.ID) // said of a row that this one replaces
}

// close notes a session's end. One that came and went since the last commit never becomes a row.
func (p *pending) close(id ID, e ending) {
	if s, ok := p.opened[id]; ok {
		delete(p.opened, id)
		p.counts.add(e.counts())
		p.remember(s.closed(e))
		return
	}
	if _, again := p.ended[id]; !again {
		p.ended[id] = e
	}
	delete(p.places, id)
}

// place notes where a session stands now.
func (p *pending) place(id ID, place Place) {
	if s, ok := p.opened[id]; ok {
		s.Place = place
	} else if _, ok := p.ended[id]; !ok {
		p.places[id] = place
	}
}

// remember keeps c among the last of the short-lived. Twice as many as wanted may gather before the older half goes, so that going costs
// nothing per session.
func (p *pending) remember(c ClosedSession) {
	if len(p.recent) >= 2*p.keep {
		p.recent = append(p.recent[:0], p.recent[len(p.recent)-p.keep:]...)
	}
	p.recent = append(p.recent, c)
}

// absorb adds what came later. It returns those who wait for an event that there was no room for.
func (p *pending) absorb(q *pending) (turnedAway []*asker) {
	for _, w := range q.events {
		if !p.event(w) && w.asker != nil {
			turnedAway = append(turnedAway, w.asker)
		}
	}
	p.lost += q.lost
	if q.run != nil {
		p.run = q.run
	}
	// A session of q that both ended and came did it in this order: the other would have left nothing but a count.
	for id, e := range q.ended {
		p.close(id, e)
	}
	for _, s := range q.opened {
		p.open(*s)
	}
	for id, place := range q.places {
		p.place(id, place)
	}
	for _, c := range q.recent {
		p.remember(c)
	}
	p.counts.add(q.counts)
	p.flushed = append(p.flushed, q.flushed...)
	p.settled = p.settled || q.settled
	return turnedAway
}

// failed takes out those who wait for an answer: for them the batch has failed, whatever becomes of the rest.
func (p *pending) failed() (askers []*asker, flushed []func(error)) {
	kept := p.events[:0]
	for _, w := range p.events {
		if w.asker != nil {
			askers = append(askers, w.asker)
		} else {
			kept = append(kept, w)
		}
	}
	clear(p.events[len(kept):])
	p.events = kept
	flushed, p.flushed = p.flushed, nil
	return askers, flushed
}

// reset empties p for the next batch. Maps that a crowd has passed through are not kept.
func (p *pending) reset() *pending {
	const roomy = 4096
	if len(p.opened) > roomy || len(p.ended) > roomy || len(p.places) > roomy {
		return newPending(p.limit, p.keep)
	}
	clear(p.opened)
	clear(p.ended)
	clear(p.places)
	clear(p.events)
	clear(p.recent)
	*p = pending{limit: p.limit, keep: p.keep, opened: p.opened, ended: p.ended, places: p.places, events: p.events[:0], recent: p.recent[:0]}
	return p
}

func (c *Counters) add(d Counters) {
	c.Opened += d.Opened
	c.Adopted += d.Adopted
	c.Closed += d.Closed
	c.Read += d.Read
	c.Written += d.Written
	c.Lost += d.Lost
	c.Refused += d.Refused
}

func (e ending) counts() Counters { return Counters{Closed: 1, Read: e.read, Written: e.written} }

// closed is what remains of a session that has ended.
func (s Session) closed(e ending) ClosedSession {
	return ClosedSession{ID: s.ID, Peer: s.Peer, Protocol: s.Protocol, Opened: s.Opened, Closed: e.at,
		Reason: e.reason, Read: e.read, Written: e.written}
}
