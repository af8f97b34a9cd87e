package journal

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Replay tells what the logs say together. It follows the files' words about each other, drives every recorded move through check (which
// returns an error for an illegal one; nil checks nothing), and puts the newest handoff in order: by the monotonic clock if all of its runs
// are of one boot, else by the wall clock. The logs are not changed.
func Replay(logs []RunLog, check func(from, to string) error) Timeline {
	logs = slices.Clone(logs)
	slices.SortStableFunc(logs, func(a, b RunLog) int { return cmp.Compare(a.Run.Number, b.Run.Number) })
	t := Timeline{Runs: []RunLine{}, Problems: []string{}}
	for _, l := range logs {
		t.Runs = append(t.Runs, runLine(l))
		t.checkFile(l)
		t.checkMoves(l, check)
	}
	t.checkLinks(logs)
	if id := newest(logs); id != "" {
		t.Handoff = tell(id, logs)
	}
	return t
}

func (t *Timeline) problem(run int, format string, args ...any) {
	t.Problems = append(t.Problems, fmt.Sprintf("run %d: ", run)+fmt.Sprintf(format, args...))
}

// checkFile says what is missing from a file.
func (t *Timeline) checkFile(l RunLog) {
	if l.Err != nil {
		t.problem(l.Run.Number, "%v", l.Err)
		return
	}
	t.Checked.Runs++
	t.Checked.Events += len(l.Events)
	if l.ChainErr != nil {
		t.problem(l.Run.Number, "%v", l.ChainErr)
	}
	for _, e := range l.Events {
		if gap, ok := e.Data.(Gap); ok {
			t.problem(l.Run.Number, "event %d: %s lost while the journal could not be written", e.Seq, plural(gap.Lost, "event was", "events were"))
		}
	}
}

// checkMoves drives the recorded moves through the state machine again. After a gap, one move may start anywhere.
func (t *Timeline) checkMoves(l RunLog, check func(from, to string) error) {
	void := withdrawn(l)
	at := "Starting"
	for _, e := range l.Events {
		switch d := e.Data.(type) {
		case Gap:
			at = ""
		case Move:
			if void[e.Seq] {
				continue
			}
			t.Checked.Moves++
			if at != "" && d.From != at {
				t.problem(l.Run.Number, "event %d: moves from %s, but the run was in %s", e.Seq, d.From, at)
			}
			if check != nil {
				if err := check(d.From, d.To); err != nil {
					t.problem(l.Run.Number, "event %d: %v", e.Seq, err)
				}
			}
			at = d.To
		}
	}
}

// withdrawn is the events of l that did not happen.
func withdrawn(l RunLog) map[uint64]bool {
	void := map[uint64]bool{}
	for _, e := range l.Events {
		if w, ok := e.Data.(Withdrawn); ok {
			void[w.Seq] = true
		}
	}
	return void
}

// checkLinks looks up what files say about each other.
func (t *Timeline) checkLinks(logs []RunLog) {
	for _, l := range logs {
		for _, e := range l.Events {
			switch d := e.Data.(type) {
			case Bye:
				t.checkBye(l, e, d, logs)
			case Unsealed:
				t.checkUnsealed(l, e, d, logs)
			}
		}
	}
}

// checkBye compares the head that the peer named with the peer's own file.
func (t *Timeline) checkBye(l RunLog, e Event, d Bye, logs []RunLog) {
	id := handoffAt(l, e)
	i := slices.IndexFunc(logs, func(o RunLog) bool { return o.Run.Number != l.Run.Number && takesPart(o, id) })
	if i < 0 || d.PeerSeq == 0 || id == "" {
		return // pruned, unreadable, or nothing was said
	}
	t.Checked.Links++
	peer := logs[i]
	switch n := uint64(len(peer.Events)); {
	case d.PeerSeq > n:
		t.problem(peer.Run.Number, "event %d is missing: run %d was told of it at BYE", d.PeerSeq, l.Run.Number)
	case peer.Events[d.PeerSeq-1].Hash != d.PeerHead:
		t.problem(peer.Run.Number, "event %d is not the one that run %d was told of at BYE", d.PeerSeq, l.Run.Number)
	}
}

// checkUnsealed compares where another run was found to have died with the end of its file now.
func (t *Timeline) checkUnsealed(l RunLog, e Event, d Unsealed, logs []RunLog) {
	i := slices.IndexFunc(logs, func(o RunLog) bool { return o.Run.Number == d.Run && o.Err == nil })
	if i < 0 {
		return
	}
	t.Checked.Links++
	if last := logs[i].Last().Seq; last != d.FromSeq-1 {
		t.problem(d.Run, "ends at event %d, but run %d found its end at event %d", last, l.Run.Number, d.FromSeq-1)
	}
}

// handoffAt is the handoff that e is about: probation may end after the handoff has.
func handoffAt(l RunLog, e Event) string {
	id := e.Handoff
	for _, before := range l.Events[:e.Seq-1] {
		if h, ok := before.Data.(Handoff); ok && e.Handoff == "" {
			id = h.ID
		}
	}
	return id
}

func takesPart(l RunLog, handoff string) bool {
	return slices.ContainsFunc(l.Events, func(e Event) bool { return e.Handoff == handoff })
}

// newest is the handoff that began last, of logs in the order of their numbers. No clock is asked, since a boot may lie in between, and the
// wall clock may have been set back: a line's predecessors have growing numbers, and each knows the order of its own handoffs.
func newest(logs []RunLog) (id string) {
	from, own := -1, false
	for _, l := range logs {
		for _, e := range l.Events {
			h, ok := e.Data.(Handoff)
			if !ok {
				continue
			}
			giver, told := h.PeerRun, h.Role == Predecessor
			if told {
				giver = l.Run.Number
			}
			if giver > from || giver == from && (told || !own) {
				id, from, own = h.ID, giver, told
			}
		}
	}
	return id
}

// of is an event and whose it is.
type of struct {
	Event
	log RunLog
}

// merge puts the events of several runs in order of time, and never changes the order within one.
func merge(logs []RunLog) []of {
	at := sameClock(logs)
	next := make([]int, len(logs))
	var out []of
	for {
		first := -1
		for i, l := range logs {
			if next[i] == len(l.Events) {
				continue
			}
			if first < 0 || at(l.Events[next[i]]) < at(logs[first].Events[next[first]]) {
				first = i
			}
		}
		if first < 0 {
			return out
		}
		out = append(out, of{logs[first].Events[next[first]], logs[first]})
		next[first]++
	}
}

// sameClock is the clock by which events of these logs can be compared, in ns.
func sameClock(logs []RunLog) func(Event) int64 {
	for _, l := range logs {
		if l.Err == nil && (l.Run.BootID == "" || l.Run.BootID != logs[0].Run.BootID) {
			return func(e Event) int64 { return e.Wall.UnixNano() }
		}
	}
	return func(e Event) int64 { return e.Mono }
}

// runLine is a run in short.
func runLine(l RunLog) RunLine {
	r := RunLine{Run: l.Run.Number, PID: l.Run.PID, Version: l.Run.Version, Started: l.Run.Started,
		Events: len(l.Events), Counters: l.Counters, Sessions: map[string]int{}}
	for _, s := range l.Sessions {
		r.Sessions[s.Place.String()]++
	}
	void := withdrawn(l)
	for _, e := range l.Events {
		if m, ok := e.Data.(Move); ok && !void[e.Seq] {
			r.State = m.To
		}
	}
	if !l.Live && l.Err == nil {
		r.Ended = new(time.Time)
		*r.Ended = l.Last().Wall
		if len(l.Events) > 0 {
			r.lasted = time.Duration(l.Last().Mono - l.Events[0].Mono)
		}
	}
	r.End = end(l)
	return r
}

// end says how a run ended, in few words.
func end(l RunLog) string {
	last := l.Last()
	switch {
	case l.Err != nil && l.Aside != "":
		return "unreadable, kept as " + l.Aside
	case l.Err != nil:
		return "unreadable"
	case l.Live:
		return "running"
	case l.Sealed:
		if s, ok := last.Data.(Sealed); ok && s.Why != "" {
			return "ended: " + s.Why
		}
		return "ended"
	}
	return fmt.Sprintf("died after event %d (%s)", last.Seq, last.Kind)
}
