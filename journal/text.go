package journal

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Text is the timeline for people: the newest handoff, its batches, every run in a line, and what the checks found.
func (t Timeline) Text() string {
	var b strings.Builder
	if len(t.Runs) == 0 {
		return "no run has been here yet\n"
	}
	if t.Handoff == nil {
		b.WriteString("no handoff yet\n\n")
	} else {
		t.Handoff.head(&b)
		t.Handoff.lines(&b)
		t.Handoff.batches(&b)
	}
	t.runs(&b)
	t.checks(&b)
	return b.String()
}

// head says who, when and how it went.
func (s *Story) head(b *strings.Builder) {
	fmt.Fprintf(b, "handoff %s: %s", s.ID, s.Result)
	if s.Reason != "" {
		fmt.Fprintf(b, ", %s", clean(s.Reason))
	}
	b.WriteString("\n\n")
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-8s%s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	fact("from", "%s", s.Predecessor)
	fact("to", "%s", s.Successor)
	fact("began", "%s%s", stamp(s.Began), by(s.Trigger))
	if s.Result == ResultDone {
		fact("moved", "%s, %s", plural(s.Moved, "session", "sessions"), plural(s.Stragglers, "straggler", "stragglers"))
		fact("took", "%s from the first lend to DONE, %s in all", millis(s.TookMS), millis(s.TotalMS))
	}
	if s.Pause != nil {
		fact("pause", "%s", strings.TrimPrefix(paused("", s.Pause), "pause "))
	}
	b.WriteString("\n")
}

func (s Side) String() string {
	switch {
	case s.Run == 0:
		return "a process that never said who it was"
	case s.Version == "":
		return fmt.Sprintf("run %d, pid %d", s.Run, s.PID)
	}
	return fmt.Sprintf("run %d, pid %d, %s", s.Run, s.PID, s.Version)
}

// lines tells the events, with times relative to the beginning.
func (s *Story) lines(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, l := range s.Lines {
		fmt.Fprintf(w, "%.3f ms\trun %d\t  %s\n", float64(l.AtUS)/1e3, l.Run, clean(l.Text))
	}
	w.Flush()
	b.WriteString("\n")
}

// batches is a table.
func (s *Story) batches(b *strings.Builder) {
	if len(s.Batches) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "batch\toffered\ttaken\trefused\tgiven\tpause p50\tp99\tmax\t")
	for _, r := range s.Batches {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t", r.Batch, count(r.Offered), count(r.Taken), count(r.Refused), count(r.Given))
		if p := r.Pause; p != nil {
			fmt.Fprintf(w, "%s\t%s\t%s\t", micros(p.P50), micros(p.P99), micros(p.Max))
		} else {
			fmt.Fprint(w, "-\t-\t-\t")
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	b.WriteString("\n")
}

// runs is a line for every run.
func (t Timeline) runs(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, r := range t.Runs {
		fmt.Fprintf(w, "run %d\t%s\t%s\t%s\t%s\t%s\n", r.Run, pid(r.PID), clean(r.Version), r.span(), r.tally(), clean(r.End))
	}
	flush(w)
	b.WriteString("\n")
}

func flush(w *tabwriter.Writer) { _ = w.Flush() } // a strings.Builder takes everything

func pid(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("pid %d", n)
}

// span is when the run lived.
func (r RunLine) span() string {
	switch {
	case r.Started.IsZero():
		return "-"
	case r.Ended == nil:
		return "since " + stamp(r.Started)
	}
	return stamp(r.Started) + " for " + lasted(r.lasted)
}

// tally is what the run's sessions did.
func (r RunLine) tally() string {
	parts := []string{plural(r.Counters.Opened, "session", "sessions")}
	add := func(n uint64, what string) {
		if n > 0 {
			parts = append(parts, count(n)+" "+what)
		}
	}
	add(r.Counters.Adopted, "adopted")
	add(r.Counters.Closed, "closed")
	add(uint64(r.Sessions[Given.String()]), "given")
	open := "open"
	if r.Ended != nil {
		open = "left open"
	}
	add(uint64(r.Sessions[Own.String()]+r.Sessions[Lent.String()]+r.Sessions[Offered.String()]+r.Sessions[Taken.String()]), open)
	return strings.Join(parts, ", ")
}

// checks says whether all of this can be believed.
func (t Timeline) checks(w io.Writer) {
	c := t.Checked
	fmt.Fprintf(w, "checked: %s in %s, %s, %s between files\n", plural(c.Events, "event", "events"), plural(c.Runs, "run", "runs"),
		plural(c.Moves, "move", "moves"), plural(c.Links, "link", "links"))
	if len(t.Problems) == 0 {
		fmt.Fprintln(w, "everything agrees")
		return
	}
	fmt.Fprintf(w, "%s:\n", plural(len(t.Problems), "problem", "problems"))
	for _, p := range t.Problems {
		fmt.Fprintf(w, "  %s\n", clean(p))
	}
}

func by(trigger string) string {
	if trigger == "" {
		return ""
	}
	return ", asked for by " + trigger
}

// stamp is a wall time to the millisecond, in UTC: operators compare it with other machines'.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 MST") }

// lasted rounds a duration to what a reader wants of it.
func lasted(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// clean keeps a text from the outside (a reason, a stderr) on its line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
