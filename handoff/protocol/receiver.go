package protocol

import (
	"slices"

	"baton/handoff/wire"
)

// A receiver is the half of either machine that gets sessions: the successor's on the way there, the predecessor's on the way back.
type receiver struct {
	*machine
	where  map[ID]holding
	offers map[int]offering // taken, and not given yet
	asked  []ID             // while Borrow is being answered
	taking *wire.Offer      // while Take is being answered
	moved  int
	batch  int // number of the newest LEND
	seq    int // number of the newest OFFER
}

// holding is what we hold of a session of the other side's.
type holding uint8

const (
	nothing  holding = iota
	missed           // it was lent, and its socket could not be taken: refused when it is offered
	borrowed         // its socket
	taken            // its socket and state
	owned            // it is ours, and the other side has a copy of its socket
)

// An offering is what we have answered to an offer.
type offering struct {
	frozenAt int64 // monotonic ns
	ids      []ID  // that were taken
}

func newReceiver(m *machine) receiver {
	return receiver{machine: m, where: map[ID]holding{}, offers: map[int]offering{}}
}

// received hears what brings sessions, and reports whether it was that and fits.
func (r *receiver) received(m wire.Message) bool {
	switch m := m.(type) {
	case *wire.Lend:
		if r.all(m.IDs, nothing) {
			r.batch = max(r.batch, m.Batch)
			r.asked = m.IDs
			r.ask(Borrow{m}, func() { r.put(borrowed, m.IDs) })
			return true
		}
	case *wire.Offer:
		if _, again := r.offers[m.Seq]; !again && r.all(m.IDs, borrowed, missed) {
			r.seq = max(r.seq, m.Seq)
			r.taking = m
			r.do(Take{m})
			return true
		}
	case *wire.Give:
		if o, ok := r.offers[m.Seq]; ok && slices.Equal(m.IDs, o.ids) && r.all(m.IDs, taken) {
			delete(r.offers, m.Seq)
			r.put(owned, m.IDs)
			r.moved += len(m.IDs)
			r.do(Own{m, o.frozenAt})
			return true
		}
	}
	return false
}

func (r *receiver) took(in Took) {
	offer := r.taking
	r.taking = nil
	r.put(taken, in.IDs)
	if len(in.IDs) > 0 { // else nothing of it is going to be given
		r.offers[offer.Seq] = offering{offer.FrozenAt, in.IDs}
	}
	r.say(&wire.Take{Seq: offer.Seq, IDs: in.IDs, Refused: in.Refused})
}

// notBorrowed: these sessions stay where they are.
func (r *receiver) notBorrowed() {
	r.then = nil
	r.put(missed, r.asked)
}

func (r *receiver) put(h holding, ids []ID) {
	for _, id := range ids {
		if r.where[id] = h; h == nothing {
			delete(r.where, id)
		}
	}
}

// all reports whether we hold just this, or one of these, of all of these sessions.
func (r *receiver) all(ids []ID, h ...holding) bool {
	return !slices.ContainsFunc(ids, func(id ID) bool { return !slices.Contains(h, r.where[id]) })
}

// at returns the sessions of which we hold this, in order.
func (r *receiver) at(h ...holding) (ids []ID) {
	for _, id := range sortedKeys(r.where) {
		if slices.Contains(h, r.where[id]) {
			ids = append(ids, id)
		}
	}
	return ids
}

// among returns those of the sessions of which we hold this.
func (r *receiver) among(ids []ID, h ...holding) []ID {
	return slices.DeleteFunc(slices.Clone(ids), func(id ID) bool { return !slices.Contains(h, r.where[id]) })
}

// closedThere: sessions have ended in the other process.
func (r *receiver) closedThere(ids []ID) {
	r.put(nothing, r.among(ids, missed))
	r.drop(r.among(ids, borrowed, taken))
}

func (r *receiver) drop(ids []ID) {
	if len(ids) > 0 {
		r.put(nothing, ids)
		r.do(Drop{ids})
	}
}
