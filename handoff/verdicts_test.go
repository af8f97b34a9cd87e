package handoff

import (
	"log/slog"
	"testing"
	"time"

	"baton/conn"
	"baton/internal/session"
	"baton/journal"
)

// However many sessions are lost at once, each is named.
func TestVerdictsOnMany(t *testing.T) {
	const lost = 10_000
	dir := t.TempDir()
	j, err := journal.Create(dir, journal.Run{}, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &run{journal: j, log: slog.New(slog.DiscardHandler), cfg: Config{Timeouts: Timeouts{}.withDefaults()}}
	verdicts := []conn.Verdict{{ID: session.MakeID(2, 1), Kept: true, By: "slate"}}
	for n := range uint64(lost) {
		id := session.MakeID(1, n+1)
		j.Opened(journal.Session{ID: id, Place: journal.Given, Opened: time.Now()})
		verdicts = append(verdicts, conn.Verdict{ID: id, Reason: "it died in the middle of a turn"})
	}
	r.recordVerdicts(journal.Recalled, verdicts, 2)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := journal.Read(j.Path())
	if err != nil {
		t.Fatal(err)
	}
	named := map[conn.ID]bool{}
	for _, e := range l.Events {
		switch d := e.Data.(type) {
		case journal.Closed:
			named[conn.ID(d.Session)] = true
		case journal.Verdict:
			for _, s := range d.Sessions {
				named[conn.ID(s)] = true
			}
		}
	}
	if len(named) != len(verdicts) {
		t.Errorf("%d of %d sessions are named", len(named), len(verdicts))
	}
}
