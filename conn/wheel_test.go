package conn

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever is put in is looked at once, never early, and at most two ticks late, whether it is due soon, past the wheel's horizon, or
// overdue already.
func TestWheel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		now := rapid.Int64Range(0, 1<<50).Draw(t, "now")
		w.tick = now / wheelTick
		due := map[ref]int64{} // the time that add returned
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "add") {
				r := ref{uint32(step), 1}
				by := now + rapid.Int64Range(-wheelTick, 2*wheelSlots*wheelTick).Draw(t, "in")
				due[r] = int64(w.add(r, by)) * wheelTick
				if at := due[r]; at <= now-wheelTick || at < by && at != (w.tick+wheelSlots-1)*wheelTick {
					t.Fatalf("added at %d for %d: will be looked at at %d", now, by, at)
				}
				continue
			}
			now += rapid.Int64Range(0, 3*wheelSlots*wheelTick/2).Draw(t, "pass")
			w.due(now, func(r ref) {
				at, ok := due[r]
				if !ok {
					t.Fatalf("%v looked at twice", r)
				}
				if at > now {
					t.Fatalf("%v looked at at %d, before %d", r, now, at)
				}
				delete(due, r)
			})
			for r, at := range due {
				if at <= now-wheelTick {
					t.Fatalf("%v not looked at at %d, was due at %d", r, now, at)
				}
			}
			if w.count != len(due) {
				t.Fatalf("count is %d, want %d", w.count, len(due))
			}
		}
	})
}
