package conn

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is put in is looked at once, never early, and at most two ticks late, whether it is due soon, past the wheel's horizon, or
// overdue already.
func TestWheel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		now := rapid.OneOf(rapid.Int64Range(0, 1<<50), // and where ticks begin anew
			rapid.Int64Range((1<<32-2*wheelSlots)*wheelTick, (1<<32+wheelSlots)*wheelTick)).Draw(t, "now")
		w.tick = now / wheelTick
		due := map[ref]int64{} // the time that add returned
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "add") {
				r := ref{uint32(step), 1}
				by := now + rapid.Int64Range(-wheelTick, 2*wheelSlots*wheelTick).Draw(t, "in")
				at := w.add(r, by)
				if at == 0 {
					t.Fatalf("added at %d for %d: will be looked at never", now, by)
				}
				due[r] = (w.tick + int64(int32(at-tick(w.tick)))) * wheelTick
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

// What comes into a wheel in which nothing was for a day is looked at once, when its time has come, and not at every tick of that day.
func TestWheelThatStoodStill(t *testing.T) {
	var w wheel
	const now, by = int64(24 * time.Hour), int64(24*time.Hour + 10*time.Second)
	looks := 0
	look := func(r ref) {
		looks++
		if w.tick*wheelTick < by {
			w.add(r, by)
		}
	}
	w.wind(now)
	w.add(ref{1, 1}, by)
	w.due(now, look)
	if w.due(by+wheelTick, look); looks != 1 {
		t.Errorf("looked at %d times", looks)
	}
}
