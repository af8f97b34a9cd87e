package journal

import (
	"strings"
	"testing"
	"time"
)

// boot moves a run to another boot, whose wall clock is wrong by so much.
func (t *tape) boot(id string, wrong time.Duration) *tape {
	t.Run.BootID, t.Run.Started = id, t.Run.Started.Add(wrong)
	for i := range t.Events {
		t.Events[i].Wall = t.Events[i].Wall.Add(wrong)
	}
	return t
}

// The wall clock may be set, by years, while a run lives or between two. Which handoff is the newest, in which order its events come, and how
// long a run lasted does not depend on it.
func TestReplayWhenTheWallClockIsSet(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, between := range []time.Duration{-40 * year, 0, 40 * year} {
		for _, within := range []time.Duration{-40 * year, 40 * year} {
			old := rolledBack() // of run 3
			old.Live, old.Sealed = false, false
			old.boot("boot-0", -between)
			p, n := upgrade() // from run 7 to 8
			for i := range p.Events[len(p.Events)/2:] {
				e := &p.Events[len(p.Events)/2+i]
				e.Wall = e.Wall.Add(within)
			}
			tl := Replay([]RunLog{p.RunLog, old.RunLog, n.RunLog}, nil)
			h := tl.Handoff
			if h == nil || h.ID != "7-1" || h.Result != ResultDone || len(tl.Problems) > 0 {
				t.Fatalf("%v, %v: %+v, %v; want the handoff 7-1", between, within, h, tl.Problems)
			}
			for i, l := range h.Lines[1:] {
				if l.AtUS < h.Lines[i].AtUS {
					t.Errorf("%v, %v: %q comes after %q, and was before it", between, within, l.Text, h.Lines[i].Text)
				}
			}
			if text := tl.Text(); !strings.Contains(text, " for 27m4s ") || strings.Contains(text, "for -") {
				t.Errorf("%v, %v: run 7 lasted for 27 minutes:\n%s", between, within, text)
			}
		}
	}
}
