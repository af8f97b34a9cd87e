package handoff

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"baton/conn"
	"baton/fsm"
	"baton/journal"
)

// Reconciling: whoever survives a run, or starts after one that has died, reads what that run's journal says, and names each session that
// went with it. A session that was served when its process died is kept, named by a verdict, or named here; none just disappears.

// readDead reads the journal of a run that has ended.
func (r *run) readDead(number int) (journal.RunLog, error) {
	return whenFree(r.ws.path("journal", journal.FileName(number)), journal.Read)
}

// hasTakenLeave reports whether the journal of a run that has ended says that it did so on purpose.
func (r *run) hasTakenLeave(number int) bool {
	sealed, err := whenFree(r.ws.path("journal", journal.FileName(number)), journal.IsSealed)
	return err == nil && sealed
}

// whenFree reads a file of a run that has ended: free as soon as the process is gone, but for a moment.
func whenFree[T any](path string, read func(string) (T, error)) (v T, err error) {
	for range 20 {
		if v, err = read(path); !errors.Is(err, journal.ErrLive) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return v, err
}

// mourn names the sessions that went with a run which has died beside us, except those that are ours now, or were (some have ended, and the
// dead did not come to note that they had been given), or were named.
func (r *run) mourn(dead int, were []conn.ID, verdicts []conn.Verdict) {
	if r.hasTakenLeave(dead) {
		return // of everybody; to read all of its file would cost more than the handoff
	}
	settled := map[conn.ID]bool{}
	for _, id := range append(r.srv.IDs(), were...) {
		settled[id] = true
	}
	for _, v := range verdicts {
		settled[v.ID] = true
	}
	l, err := r.readDead(dead)
	if err != nil {
		r.log.Error("the journal of a dead run cannot be read; what went with it is not known", "dead", dead, "error", err)
		return
	}
	r.bury(l, slices.DeleteFunc(served(l), func(id conn.ID) bool { return settled[id] }))
}

// bury records that a run's file has no end, and which sessions were lost with it.
func (r *run) bury(l journal.RunLog, lost []conn.ID) {
	if l.Sealed {
		return // it took leave of everybody
	}
	r.journal.Record(journal.Unsealed{Run: l.Run.Number, FromSeq: l.Last().Seq + 1})
	if len(lost) == 0 {
		return
	}
	r.journal.Record(journal.Verdict{Verdict: fmt.Sprintf("lost with run %d", l.Run.Number), Sessions: journal.IDsOf(lost)})
	r.log.Error("sessions were lost with a run that died", "dead", l.Run.Number, "sessions", len(lost))
}

// served are the sessions that a run's journal says it served at its end.
func served(l journal.RunLog) (ids []conn.ID) {
	for _, s := range l.Sessions {
		switch s.Place {
		case journal.Own, journal.Lent, journal.Offered:
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// reconcilePast is a first start's: the runs before it have all ended, and those that died are buried unless an earlier one has done it.
func (r *run) reconcilePast() {
	p := r.past()
	for n, l := range p.logs {
		if !l.Sealed && !p.buried[n] {
			r.bury(l, p.lostWith(n))
		}
	}
}

// A past is what the journals say of the runs before a first start.
type past struct {
	logs   map[int]journal.RunLog // by run
	buried map[int]bool           // by one of the others
	giver  map[int]int            // of each successor, the run that was about to give to it
}

// lostWith are the sessions that went with a run which died. What two runs that died had between them goes with the successor.
func (p *past) lostWith(run int) []conn.ID {
	l, giver := p.logs[run], p.giver[run]
	lost := served(l)
	if from, ok := p.logs[giver]; ok && !from.Sealed && !p.buried[giver] && !parted(l) {
		lost = append(lost, inNoHands(from, l)...)
	}
	newest := p.newestSuccessor(run)
	if to, ok := p.logs[newest]; ok && to.Sealed && !parted(to) && !returned(l, newest) { // it had given back all that it had, and left
		lost = append(lost, inNoHands(l, to)...)
	}
	return lost
}

// returned reports whether a run's file says that its successor has given everything back. What each session became is in it then, too, but for
// those that have ended since: only so many of them are remembered.
func returned(l journal.RunLog, successor int) (yes bool) {
	for _, e := range l.Events {
		switch d := e.Data.(type) {
		case journal.Hello:
			yes = yes && d.Run != successor
		case journal.Returned:
			yes = true
		}
	}
	return yes
}

// newestSuccessor is the last run that was about to get something of this one; 0 = none. This one had time to note what earlier ones gave back.
func (p *past) newestSuccessor(run int) (newest int) {
	for to, from := range p.giver {
		if from == run {
			newest = max(newest, to)
		}
	}
	return newest
}

// pastLimit is how many runs a start looks back, at most.
const pastLimit = 256

// past reads the journals of the runs before this one, as far back as the newest that was a first start itself: what was before it was its
// to tell.
func (r *run) past() *past {
	p := &past{logs: map[int]journal.RunLog{}, buried: map[int]bool{}, giver: map[int]int{}}
	for n := r.number - 1; n > max(0, r.number-1-pastLimit); n-- {
		l, err := r.readDead(n)
		if err != nil {
			continue // never written, removed, or set aside by Create, which has said so
		}
		p.logs[n] = l
		first := false
		for _, e := range l.Events {
			switch d := e.Data.(type) {
			case journal.Hello:
				p.giver[d.Run] = n // a successor that died young may not have noted whose it was
			case journal.Unsealed:
				p.buried[d.Run] = true
			case journal.Move:
				first = first || d.From == string(fsm.Starting) && d.To == string(fsm.Serving)
			}
		}
		if first {
			break
		}
	}
	return p
}

// parted reports whether a successor's file says that its predecessor took leave of it: its end had nothing to do with the other's then.
func parted(successor journal.RunLog) bool {
	return slices.ContainsFunc(successor.Events, func(e journal.Event) bool { _, bye := e.Data.(journal.Bye); return bye })
}

// inNoHands are sessions that one of two runs gave, there or back, and that the other, which died, had no time to note.
func inNoHands(a, b journal.RunLog) (ids []conn.ID) {
	given, held := map[conn.ID]bool{}, map[conn.ID]bool{}
	noted := map[conn.ID]bool{} // by b
	for _, s := range b.Sessions {
		noted[s.ID] = true
	}
	for _, l := range []journal.RunLog{a, b} {
		for _, s := range l.Sessions {
			switch s.Place {
			case journal.Given:
				given[s.ID] = true
			case journal.Taken: // that it was given, too, had yet to be noted
			default:
				held[s.ID] = true
			}
		}
		for _, c := range l.Closed {
			held[c.ID] = held[c.ID] || c.Reason != stayed
		}
	}
	for id := range given {
		if !held[id] && (noted[id] || !b.Sealed) { // what is not among the rows of a whole file has ended, however long ago
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
