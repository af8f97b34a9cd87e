package journal

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Once an event was lost, later ones are too, although there is room again: the gap stands where the first one would.
func TestNoEventOvertakesAGap(t *testing.T) {
	p := newPending(2, 10)
	a := &asker{}
	if !p.event(waiting{kind: "1"}) || !p.event(waiting{kind: "2", asker: a}) || p.event(waiting{kind: "3"}) {
		t.Fatal("there is room for two")
	}
	p.drop(a)
	if p.event(waiting{kind: "4"}) || p.lost != 2 {
		t.Errorf("the fourth event stands before the third; lost %d", p.lost)
	}
}

// What is noted in two parts and put together is the same as what is noted in one: a batch that failed loses nothing.
func TestAbsorb(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, first, second := newPending(5, 100), newPending(5, 100), newPending(5, 100)
		n := rapid.IntRange(0, 30).Draw(t, "steps")
		split := rapid.IntRange(0, n).Draw(t, "split")
		live := map[ID]bool{1: true, 2: true} // these have a row
		for i := range n {
			part := first
			if i >= split {
				part = second
			}
			id := ID(rapid.IntRange(1, 6).Draw(t, "id"))
			what := rapid.SampledFrom([]string{"open", "close", "place", "event", "run"}).Draw(t, "what")
			place := Place(rapid.IntRange(0, 4).Draw(t, "place"))
			for _, p := range []*pending{all, part} {
				switch {
				case what == "open" && !live[id]:
					p.open(Session{ID: id, Read: uint64(i)})
				case what == "close" && live[id]:
					p.close(id, ending{reason: "end", read: uint64(i)})
				case what == "place" && live[id]:
					p.place(id, place)
				case what == "event":
					p.event(waiting{mono: int64(i)})
				case what == "run":
					p.run = &Run{Number: i}
				}
			}
			switch what {
			case "open":
				live[id] = true
			case "close":
				live[id] = false
			}
		}
		first.absorb(second)
		if diff := cmp.Diff(all, first, cmp.AllowUnexported(pending{}, waiting{}, ending{}), cmp.Comparer(func(a, b []ClosedSession) bool {
			return slices.Equal(sortedByID(a), sortedByID(b))
		}), cmp.Comparer(func(a, b Session) bool { return a == b })); diff != "" {
			t.Fatalf("in one (-) and in two (+):\n%s", diff)
		}
	})
}

func sortedByID(s []ClosedSession) []ClosedSession {
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b ClosedSession) int { return int(a.ID) - int(b.ID) })
	return s
}
