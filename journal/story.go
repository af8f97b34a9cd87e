package journal

import "slices"

// tell puts one handoff together from the files of those who took part.
func tell(id string, logs []RunLog) *Story {
	parts := participants(id, logs)
	s := &Story{ID: id, Batches: []Batch{}, Lines: []Line{}}
	at := sameClock(parts)
	merged := merge(parts)
	start := merged[0]
	for _, e := range merged {
		if h, ok := e.Data.(Handoff); ok && h.ID == id {
			start = e
			break
		}
	}
	s.Began = start.Wall
	for _, e := range merged {
		s.Lines = append(s.Lines, Line{AtUS: (at(e.Event) - at(start.Event)) / 1000, Run: e.log.Run.Number, Event: e.Event})
		s.learn(e)
	}
	for i := range s.Lines {
		l := &s.Lines[i]
		l.Role = s.role(l.Run)
		l.Text = sentence(l.Data, l.Role)
	}
	s.strike(parts)
	s.conclude(parts)
	return s
}

// participants are the logs of a handoff, cut down to their part in it: the events that carry its id, and a successor's life before those,
// which had no other purpose.
func participants(id string, logs []RunLog) []RunLog {
	successor := 0
	for _, l := range logs {
		for _, e := range l.Events {
			if e.Handoff == id {
				successor = max(successor, successorIn(l, e))
			}
		}
	}
	var out []RunLog
	for _, l := range logs {
		part := l
		part.Events = nil
		for i, e := range l.Events {
			before := l.Run.Number == successor && !slices.ContainsFunc(l.Events[:i+1], func(e Event) bool { return e.Handoff != "" })
			if e.Handoff == id || before {
				part.Events = append(part.Events, e)
			}
		}
		if len(part.Events) > 0 {
			out = append(out, part)
		}
	}
	return out
}

// successorIn is the run that an event names as the successor; 0 if it names none.
func successorIn(l RunLog, e Event) int {
	switch d := e.Data.(type) {
	case Handoff:
		if d.Role == Successor {
			return l.Run.Number
		}
		return d.PeerRun
	case Hello:
		return d.Run
	}
	return 0
}

// learn takes from an event what the story's head and batches say.
func (s *Story) learn(e of) {
	self := Side{Run: e.log.Run.Number, PID: e.log.Run.PID, Version: e.log.Run.Version}
	switch d := e.Data.(type) {
	case Handoff:
		s.begin(d, self)
	case Hello:
		if s.Successor.Run == 0 {
			s.Successor = Side{Run: d.Run, PID: d.PID, Version: d.Version}
		}
	case Done:
		// Both sides say it; only the one that has the pauses measured them.
		s.Moved, s.Stragglers = max(s.Moved, d.Moved), max(s.Stragglers, d.Stragglers)
		s.TookMS, s.TotalMS = max(s.TookMS, d.TookMS), max(s.TotalMS, d.TotalMS)
		if d.Pause != nil {
			s.Pause = d.Pause
		}
	case Offer:
		s.batch(d.Batch).Offered = len(d.Sessions)
	case Take:
		b := s.batch(d.Batch)
		b.Taken, b.Refused = d.Count, refusedIn(d)
	case Give:
		b := s.batch(d.Batch)
		b.Given = d.Count
		if d.Pause != nil {
			b.Pause = d.Pause
		}
	}
}

func (s *Story) begin(d Handoff, self Side) {
	if d.Role == Successor {
		s.Successor = self
		if s.Predecessor.Run == 0 {
			s.Predecessor = Side{Run: d.PeerRun, PID: d.PeerPID}
		}
		return
	}
	s.Predecessor = self
	s.Trigger, s.Binary, s.Check = d.Trigger, d.Binary, d.Check
}

// batch is the row of a batch, which it makes.
func (s *Story) batch(n int) *Batch {
	i, ok := slices.BinarySearchFunc(s.Batches, n, func(b Batch, n int) int { return b.Batch - n })
	if !ok {
		s.Batches = slices.Insert(s.Batches, i, Batch{Batch: n})
	}
	return &s.Batches[i]
}

func (s *Story) role(run int) string {
	if run == s.Successor.Run {
		return Successor
	}
	return Predecessor
}

// strike marks the lines of events that did not happen.
func (s *Story) strike(parts []RunLog) {
	for _, p := range parts {
		void := withdrawn(p)
		for i := range s.Lines {
			if l := &s.Lines[i]; l.Run == p.Run.Number && void[l.Seq] {
				l.Text += " (did not happen)"
			}
		}
	}
}

// conclude says what became of the handoff.
func (s *Story) conclude(parts []RunLog) {
	var done bool
	var refused, aborted, died string
	for _, l := range s.Lines {
		switch d := l.Data.(type) {
		case Done:
			done, aborted = true, ""
		case Refused:
			refused = d.Reason
		case Abort:
			aborted = d.Reason
		case PeerDied:
			if !s.Check || aborted == "" { // after a dry run, the successor's end is no news
				died = whose(d) + ": " + d.How
			}
		}
	}
	switch {
	case s.Check && refused != "":
		s.Result, s.Reason = ResultCheckFailed, refused
	case s.Check && died != "":
		s.Result, s.Reason = ResultCheckFailed, died
	case s.Check && aborted != "":
		s.Result = ResultCheckPassed
	case aborted != "":
		s.Result, s.Reason = ResultRolledBack, aborted
	case done:
		s.Result = ResultDone
	case refused != "":
		s.Result, s.Reason = ResultRolledBack, refused
	case died != "":
		s.Result, s.Reason = ResultPeerDied, died
	case slices.ContainsFunc(parts, func(l RunLog) bool { return l.Live }):
		s.Result = ResultUnderWay
	default:
		s.Result = ResultUnfinished
	}
}

func refusedIn(t Take) (n int) {
	for _, r := range t.Refused {
		n += len(r.Sessions)
	}
	return n
}
