package handoff

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"baton/conn"
	"baton/journal"
)

// Reconciling: whoever survives a run, or starts after one that has died, reads what that run's journal says, and names each session that
// went with it. A session that was served when its process died is kept, named by a verdict, or named here; none just disappears.

// readDead reads the journal of a run that has ended. Its file is free as soon as the process is gone, but for a moment.
func (r *run) readDead(number int) (l journal.RunLog, err error) {
	for try := 0; try < 20; try++ {
		l, err = journal.Read(r.ws.path("journal", journal.FileName(number)))
		if !errors.Is(err, journal.ErrLive) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return l, err
}

// mourn names the sessions that went with a run which has died beside us, except those that are ours now, or were named.
func (r *run) mourn(dead int, verdicts []conn.Verdict) {
	settled := map[conn.ID]bool{}
	for _, id := range r.srv.IDs() {
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

// reconcilePast is a first start's: the runs before it have all ended, and those that died are not buried yet. It looks back to the newest
// run that was sealed, or was buried by a later one.
func (r *run) reconcilePast() {
	buried := map[int]bool{}
	var dead []journal.RunLog
	for n := r.number - 1; n > 0; n-- {
		l, err := r.readDead(n)
		if err != nil {
			break // none, or none that can be read: Create has set it aside and said so
		}
		for _, e := range l.Events {
			if u, ok := e.Data.(journal.Unsealed); ok {
				buried[u.Run] = true
			}
		}
		if l.Sealed || buried[n] {
			break
		}
		dead = append(dead, l)
	}
	for i, l := range dead {
		lost := served(l)
		if i+1 < len(dead) && l.Run.Predecessor == dead[i+1].Run.Number {
			lost = append(lost, givenUnnoted(dead[i+1], l)...)
		}
		r.bury(l, lost)
	}
}

// givenUnnoted are sessions that a dead predecessor gave, and that its dead successor had no time to note.
func givenUnnoted(from, to journal.RunLog) (ids []conn.ID) {
	known := map[conn.ID]bool{}
	for _, s := range to.Sessions {
		known[s.ID] = s.Place != journal.Taken // that it was given, too, had yet to be noted
	}
	for _, c := range to.Closed {
		known[c.ID] = true
	}
	for _, s := range from.Sessions {
		if s.Place == journal.Given && !known[s.ID] {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
