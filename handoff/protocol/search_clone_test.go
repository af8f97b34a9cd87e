package protocol

import (
	"maps"
	"reflect"
	"slices"
	"testing"
)

// clone copies a world between two steps, when no question is open.
func (w *world) clone() *world {
	c := *w
	c.pm, c.sm = w.pm.clone(), w.sm.clone()
	c.p, c.s = w.p.clone(), w.s.clone()
	c.sessions = make(map[ID]*sess, len(w.sessions))
	copies := make([]sess, 0, len(w.sessions))
	for id, s := range w.sessions {
		copies = append(copies, *s)
		c.sessions[id] = &copies[len(copies)-1]
	}
	c.log, c.doing = func(string) {}, nil
	c.wrong, c.journal, c.reported = slices.Clone(w.wrong), slices.Clone(w.journal), nil
	c.intended, c.refuseMoves, c.refuse, c.unsavable = maps.Clone(w.intended), maps.Clone(w.refuseMoves), maps.Clone(w.refuse), maps.Clone(w.unsavable)
	return &c
}

func (x *side) clone() side {
	c := *x
	c.mail, c.posted, c.timers = slices.Clone(x.mail), slices.Clone(x.posted), maps.Clone(x.timers)
	return c
}

func (p *Predecessor) clone() *Predecessor {
	c := *p
	c.machine = machine{}
	c.giver, c.receiver = p.giver.clone(&c.machine), p.receiver.clone(&c.machine)
	return &c
}

func (s *Successor) clone() *Successor {
	c := *s
	c.machine = machine{}
	c.giver, c.receiver, c.accepted = s.giver.clone(&c.machine), s.receiver.clone(&c.machine), maps.Clone(s.accepted)
	return &c
}

func (g giver) clone(m *machine) giver {
	g.machine = m
	g.sessions.where, g.tries, g.refused = maps.Clone(g.sessions.where), maps.Clone(g.tries), maps.Clone(g.refused)
	for _, list := range []*[]ID{&g.queue, &g.resting, &g.busy, &g.late, &g.dead} {
		*list = slices.Clone(*list)
	}
	g.intents, g.offers = slices.Clone(g.intents), slices.Clone(g.offers)
	return g
}

func (r receiver) clone(m *machine) receiver {
	r.machine = m
	r.where, r.offers = maps.Clone(r.where), maps.Clone(r.offers)
	return r
}

// TestClonesShareNothing: a list or map that a copy of a world shared with it would be changed by both. Only what never changes may be shared:
// messages, and lists of sessions that were cut off for good.
func TestClonesShareNothing(t *testing.T) {
	s := newSearch(scenarios[0], 0, 0)
	n := 0
	for w := s.begin(); ; n++ {
		list := s.events(w)
		if len(list) == 0 {
			break
		}
		c := w.clone()
		if c.key() != w.key() {
			t.Fatal("a copy is another state")
		}
		shared(t, "world", reflect.ValueOf(w).Elem(), reflect.ValueOf(c).Elem())
		list[len(list)-1].do(w)
	}
	if n < 10 {
		t.Errorf("it was over after %d events", n)
	}
}

var mayBeShared = map[string]bool{
	"intent.ids": true, "offer.ids": true, "offering.ids": true, "giver.giving": true, "receiver.asked": true, "receiver.taking": true,
	"mail.m": true, "mail.lent": true, "Intend.IDs": true, "side.posted": true, "side.end": true, "machine.out": true, "machine.then": true,
	"world.log": true, "world.doing": true,
}

func shared(t *testing.T, at string, a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Map, reflect.Slice, reflect.Pointer:
		if !a.IsNil() && a.UnsafePointer() == b.UnsafePointer() && !(a.Kind() == reflect.Slice && a.Cap() == 0) {
			t.Errorf("%s is shared", at)
		}
	case reflect.Func, reflect.Interface:
		if !a.IsNil() {
			t.Errorf("%s may be shared", at)
		}
	}
	switch a.Kind() {
	case reflect.Pointer:
		if !a.IsNil() {
			shared(t, at, a.Elem(), b.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range min(a.Len(), b.Len()) {
			shared(t, at, a.Index(i), b.Index(i))
		}
	case reflect.Map:
		for it := a.MapRange(); it.Next(); {
			shared(t, at, it.Value(), b.MapIndex(it.Key()))
		}
	case reflect.Struct:
		for i := range a.NumField() {
			if name := a.Type().Name() + "." + a.Type().Field(i).Name; !mayBeShared[name] {
				shared(t, name, a.Field(i), b.Field(i))
			}
		}
	}
}
