package handoff

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"baton/conn"
	"baton/fsm"
	"baton/handoff/protocol"
	"baton/handoff/wire"
	"baton/internal/mono"
	"baton/journal"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/fxamacker/cbor/v2"
)

// A side is one of the two of a handoff: what both have, and both do. On the way there the predecessor gives and the successor receives,
// on the way back it is the other way round.
type side struct {
	conversation
	r    *run
	back bool // sessions that this side gives, rather than those that it gets, are on their way back

	// These are guarded by conversation.mu.
	lender   int64          // when the first batch was lent; monotonic ns
	versions map[string]int // of the states that are written for the other side, by protocol
	slate    *conn.Slate    // nil = there is none so far
	report   Handoff
	aborted  bool      // ABORT is in the journal
	turned   bool      // the other side has said ABORT
	attached []conn.ID // sessions that this side gave, and that may still wake its loops
	got      []conn.ID // sessions that the other side gave, some of which may have ended since, or said to have ended: they did not go with it

	newest    *batch                  // that came last
	measuring sync.Mutex              // guards what follows
	pauses    *hdrhistogram.Histogram // ns
}

// act performs what the machines of both sides say, and returns the answer, if it was a question.
func (s *side) act(out protocol.Output) (answers []protocol.Input, done bool) {
	srv := s.r.srv
	switch out := out.(type) {
	case protocol.Move:
		return s.r.move(out), true
	case protocol.Lend:
		return s.lend(out), true
	case protocol.Freeze:
		return s.freeze(out.IDs), true
	case protocol.Thaw:
		srv.Thaw(out.IDs)
		s.r.place(journal.Lent, out.IDs)
	case protocol.LetGo:
		return s.letGo(out.IDs), true
	case protocol.Detach:
		if s.attached = append(s.attached, out.IDs...); s.report.Result == protocol.ResultDone { // no batches move any more
			s.detach()
		}
	case protocol.Unlend:
		srv.Unlend(out.IDs)
		s.r.place(journal.Own, out.IDs)
	case protocol.StopAccepting:
		srv.StopAccepting()
		return append(s.takeSessions(), protocol.NotAccepting{}), true
	case protocol.Finish:
		for _, id := range out.IDs {
			if c := srv.Get(id); c != nil {
				c.Close(errDrained)
			}
		}
	case protocol.Borrow:
		return s.borrow(out.Lend), true
	case protocol.Take:
		return s.take(out.Offer), true
	case protocol.Own:
		s.own(out)
	case protocol.Drop:
		srv.Drop(out.IDs)
		s.r.drop(out.IDs)
	case protocol.Report:
		s.r.log.Warn("handoff", "handoff", s.report.ID, "what", out.Text)
	default:
		return nil, false
	}
	return nil, true
}

// send says something. A channel that is broken is noticed by its reader.
func (s *side) send(m wire.Message, fds ...int) {
	switch m := m.(type) {
	case *wire.Offer:
		s.r.journal.Record(journal.Offer{Batch: m.Seq, Sessions: journal.IDsOf(m.IDs), Back: s.back})
	case *wire.Bye:
		m.Seq, m.Head = s.r.journalHead()
	case *wire.Abort:
		s.noteAbort(m.Reason)
	}
	if s.channel == nil {
		return // it never came
	}
	if err := s.channel.Send(m, fds...); err != nil {
		s.r.log.Warn("message not sent", "handoff", s.report.ID, "message", m.Type().String(), "error", err)
	}
}

// noteAbort has the end of a handoff in the journal once, with the reason of whoever said it first.
func (s *side) noteAbort(reason string) {
	if !s.aborted {
		s.aborted = true
		s.r.journal.Record(journal.Abort{Reason: reason})
	}
}

// detach has the loops forget what this side gave: at a time when nobody waits for the next batch, and a little at a time, since it is a
// system call for each session.
func (s *side) detach() {
	ids := s.attached
	s.attached = nil
	s.r.background.Go(func() {
		for some := range slices.Chunk(ids, 64) {
			s.r.srv.Detach(some)
			runtime.Gosched()
		}
	})
}

// endedThere: the other side says that sessions have ended. Where they had been given, its word is the last on them.
func (s *side) endedThere(ids []conn.ID) {
	s.got = append(s.got, ids...)
	for _, id := range ids {
		if s.r.srv.Get(id) == nil {
			s.r.journal.Closed(uint64(id), "ended in the other run", 0, 0)
		}
	}
}

// errDrained ends a straggler.
var errDrained = fmt.Errorf("did not come to rest within the drain timeout: %w", conn.ErrStopped)

// move changes the run's state for a machine.
func (r *run) move(m protocol.Move) []protocol.Input {
	var err error
	if m.Rescue {
		err = r.fsm.Rescue(context.Background(), m.Why)
	} else {
		err = r.fsm.Move(context.Background(), fsm.State(m.To), m.Why)
	}
	if err != nil {
		return []protocol.Input{protocol.MoveRefused{Reason: err.Error()}}
	}
	return []protocol.Input{protocol.Moved{}}
}

func (r *run) place(p journal.Place, ids []conn.ID) {
	raw := make([]uint64, len(ids))
	for i, id := range ids {
		raw[i] = uint64(id)
	}
	r.journal.Place(p, raw...)
}

func (s *side) lend(l protocol.Lend) []protocol.Input {
	if s.lender == 0 {
		s.lender = mono.Now()
	}
	loans := s.r.srv.Lend(l.IDs)
	m := &wire.Lend{Batch: l.Batch}
	fds := make([]int, len(loans))
	for i, loan := range loans {
		m.IDs, m.Cookies, m.Slots = append(m.IDs, loan.ID), append(m.Cookies, loan.Cookie), append(m.Slots, int(loan.Slot))
		fds[i] = loan.FD
	}
	s.r.place(journal.Lent, m.IDs)
	if s.back { // else it was in the journal before
		s.r.journal.Record(journal.Lend{Batch: l.Batch, Sessions: journal.IDsOf(m.IDs)})
	}
	answer := []protocol.Input{protocol.Lent{Batch: l.Batch, IDs: m.IDs}}
	if len(fds) == 0 {
		return answer
	}
	s.send(m, fds...)
	return answer
}

func (s *side) freeze(ids []conn.ID) []protocol.Input {
	f := protocol.Frozen{FrozenAt: mono.Now()}
	states, busy, failed := s.r.srv.Freeze(ids, s.versions)
	f.Busy = busy
	for i := range states {
		data, err := states[i].Marshal()
		if err != nil {
			panic("handoff: a state of ours cannot be encoded: " + err.Error())
		}
		f.IDs, f.States = append(f.IDs, states[i].ID), append(f.States, data)
	}
	for id, err := range failed {
		if f.Failed == nil {
			f.Failed = map[conn.ID]string{}
		}
		f.Failed[id] = err.Error()
	}
	return []protocol.Input{f}
}

func (s *side) letGo(ids []conn.ID) []protocol.Input {
	var raw []cbor.RawMessage
	for _, late := range s.r.srv.Give(ids) {
		data, err := cbor.Marshal(late)
		if err != nil {
			panic("handoff: late output cannot be encoded: " + err.Error())
		}
		raw = append(raw, data)
	}
	if !s.back {
		s.report.Moved += len(ids)
	}
	s.r.place(journal.Given, ids)
	return []protocol.Input{protocol.Gave{Lates: raw}}
}

func (s *side) borrow(m *wire.Lend) []protocol.Input {
	if s.lender == 0 {
		s.lender = mono.Now()
	}
	fds := s.received
	s.received = nil
	if len(fds) != len(m.IDs) {
		return []protocol.Input{protocol.NotBorrowed{Reason: wire.ErrRoom.Error()}}
	}
	loans := make([]conn.Loan, len(fds))
	for i, fd := range fds {
		loans[i] = conn.Loan{ID: m.IDs[i], Cookie: m.Cookies[i], FD: fd, Slot: int32(m.Slots[i])}
	}
	if err := s.r.srv.Borrow(loans); err != nil {
		return []protocol.Input{protocol.NotBorrowed{Reason: err.Error()}}
	}
	return []protocol.Input{protocol.Borrowed{}}
}

// take checks and loads states. A session that cannot be taken is refused by itself.
func (s *side) take(o *wire.Offer) []protocol.Input {
	took := protocol.Took{IDs: make([]conn.ID, 0, len(o.IDs))}
	states := make([]conn.State, len(o.IDs))
	for i, id := range o.IDs {
		err := states[i].Unmarshal(o.States[i])
		if err == nil && states[i].ID != id {
			err = fmt.Errorf("the state is of session %v", states[i].ID)
		}
		if err == nil {
			err = s.r.srv.Take(&states[i])
		}
		if err != nil {
			took.Refused = append(took.Refused, wire.Refusal{ID: id, Reason: err.Error()})
			continue
		}
		took.IDs = append(took.IDs, id)
		s.r.adopt(&states[i])
	}
	s.r.journal.Record(takeEvent(o.Seq, len(took.IDs), took.Refused, !s.back))
	return []protocol.Input{took}
}

// adopt notes a session that has come.
func (r *run) adopt(s *conn.State) {
	r.journal.Opened(journal.Session{
		ID: journal.ID(s.ID), Place: journal.Taken, Peer: s.Peer, Protocol: s.Protocol, Opened: time.Unix(0, s.Opened), Read: s.Read, Written: s.Written,
	})
}

// stayed is said of sessions that were about to come, or to come back, and did not.
const stayed = "stayed with the other run, or ended there"

// drop notes sessions that did not come after all.
func (r *run) drop(ids []conn.ID) {
	for _, id := range ids {
		r.journal.Closed(uint64(id), stayed, 0, 0)
	}
}

func takeEvent(seq, count int, refused []wire.Refusal, back bool) journal.Take {
	e := journal.Take{Batch: seq, Count: count, Back: back}
	for _, r := range refused {
		e.Refused = append(e.Refused, journal.Refusal{Sessions: journal.IDsOf([]conn.ID{r.ID}), Reason: r.Reason})
	}
	return e
}

// own serves sessions from now on, and measures how long they stood still.
func (s *side) own(o protocol.Own) {
	lates := make([]conn.Late, len(o.Give.Lates))
	var unreadable error
	for i, raw := range o.Give.Lates {
		unreadable = errors.Join(unreadable, cbor.Unmarshal(raw, &lates[i]))
	}
	b := &batch{seq: o.Give.Seq, frozenAt: o.FrozenAt, of: len(o.Give.IDs), full: make(chan struct{})}
	s.newest = b
	if n := s.r.srv.Own(o.Give.IDs, lates, func(at int64) { s.resumed(b, at) }); s.back {
		s.report.Moved += n
	}
	s.got = append(s.got, o.Give.IDs...)
	s.r.place(journal.Own, o.Give.IDs)
	if unreadable != nil { // bytes are missing from one of these streams, and nobody can tell from which
		for _, id := range o.Give.IDs {
			if c := s.r.srv.Get(id); c != nil {
				c.Close(fmt.Errorf("what was written to it during the handoff cannot be read: %w", unreadable))
			}
		}
	}
}

// A batch is sessions that were given together, as long as our loops have not come to all of them.
type batch struct {
	seq      int
	frozenAt int64 // monotonic ns
	of       int   // sessions
	pauses   []int64
	full     chan struct{} // closed when they have
}

// resumed is called by the sessions' loops.
func (s *side) resumed(b *batch, at int64) {
	s.measuring.Lock()
	defer s.measuring.Unlock()
	pause := at - b.frozenAt
	b.pauses = append(b.pauses, pause)
	s.pauses.RecordValue(min(pause, s.pauses.HighestTrackableValue()))
	if len(b.pauses) == b.of {
		close(b.full)
		s.r.journal.Record(journal.Give{Batch: b.seq, Count: len(b.pauses), Pause: journalPause(summaryOf(b.pauses)), Back: !s.back})
	}
}

// waitResumed waits, within reason, until our loops have come to the sessions given last, so that their pauses are known.
func (s *side) waitResumed() {
	if s.newest == nil {
		return
	}
	select {
	case <-s.newest.full:
	case <-time.After(s.r.cfg.Timeouts.Answer / 4):
		s.r.log.Warn("a loop is slow, and the longest pauses are not known yet", "handoff", s.report.ID)
	}
}

// recordVerdicts has in the journal what became of sessions whose process, the other run, has died. It returns how many go on.
func (r *run) recordVerdicts(how string, verdicts []conn.Verdict, other int) (kept int) {
	proved := map[string][]conn.ID{}
	var events []journal.Data
	for _, v := range verdicts {
		if v.Kept {
			kept++
			proved[v.By] = append(proved[v.By], v.ID)
			continue
		}
		reason := fmt.Sprintf("lost with run %d: %s", other, v.Reason)
		r.log.Warn("session closed", "session", v.ID, "peer", v.Info.Peer, "protocol", v.Info.Protocol, "reason", reason)
		events = append(events, journal.Closed{
			Session: v.ID, Reason: reason, Read: v.Info.Read, Written: v.Info.Written,
			Witness: &journal.Positions{Read: v.Kernel.Read, Written: v.Kernel.Written},
		})
		r.journal.Closed(uint64(v.ID), reason, v.Info.Read, v.Info.Written)
	}
	for by, ids := range proved {
		events = append(events, journal.Verdict{Verdict: how, Sessions: journal.IDsOf(ids), By: by})
		r.place(journal.Own, ids)
	}
	r.recordMany(events)
	return kept
}

// recordAtOnce is how many events are recorded before it is waited until they are in the journal, where only so many may wait.
const recordAtOnce = 1024

// recordMany records any number of events. It waits for a journal that is well, so that none of them is lost.
func (r *run) recordMany(events []journal.Data) {
	well := true
	for i, e := range events {
		if (i+1)%recordAtOnce != 0 || !well || r.journal.Err() != nil {
			r.journal.Record(e)
		} else if r.commit(e) != nil {
			well = false
			r.journal.Record(e) // Commit has taken it back
		}
	}
}
