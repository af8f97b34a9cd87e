package conn

import "time"

// A wheel finds the sessions whose timeout may have come. It is coarse and lazy: a session is in it once, at the earliest time it could
// be due, and is looked at and put back when it turns out not to be. So a frame that restarts a timeout costs nothing here.
type wheel struct {
	slots [wheelSlots][]ref
	tick  int64 // monotonic ns / wheelTick, up to which everything has been looked at
	count int
}

const (
	wheelTick  = int64(50 * time.Millisecond)
	wheelSlots = 256 // later deadlines are put into the last slot, and back from there
)

// A tick is a moment in units of wheelTick, modulo 2³². It has half the size of the ns that it stands for, in each session.
type tick uint32

func tickOf(ns int64) tick { return tick(ns / wheelTick) }

func (t tick) before(u tick) bool { return int32(t-u) < 0 }

// at is when the wheel would look at what is to be looked at by then: never early, unless that is far away.
func (w *wheel) at(by int64) int64 {
	at := min(max(by/wheelTick+1, w.tick+1), w.tick+wheelSlots-1)
	if tick(at) == 0 { // which means that there is none
		at++
	}
	return at
}

// add has r looked at when by has come, or earlier if that is far away. It returns when; never 0.
func (w *wheel) add(r ref, by int64) tick {
	at := w.at(by)
	slot := &w.slots[at%wheelSlots]
	*slot = append(*slot, r)
	w.count++
	return tick(at)
}

// wind brings a wheel that has stood still, since nothing was in it, up to now: there is nothing to be looked at on the way.
func (w *wheel) wind(now int64) {
	if w.count == 0 {
		w.tick = max(w.tick, now/wheelTick)
	}
}

// due calls look with every session whose time may have come. look may add.
func (w *wheel) due(now int64, look func(ref)) {
	for end := now / wheelTick; w.tick < end; {
		if w.wind(now); w.tick == end {
			return
		}
		w.tick++
		slot := &w.slots[w.tick%wheelSlots]
		refs := *slot
		*slot = nil
		w.count -= len(refs)
		for _, r := range refs {
			look(r)
		}
	}
}
