package protocol

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"sync"
	"testing"

	"baton/handoff/wire"

	"github.com/fxamacker/cbor/v2"
)

// Which states are the same? Those that agree in all of both machines, of the world, and of what is on its way. All means every field, found
// by reflection, so that none is forgotten when one is added, but for those that change nothing in what follows. They are named here, with
// the reason. The key is a hash of 64 bits: among a million states two would share one in one of 30 million searches, which would then
// miss one of them.

// ignored are fields that no step reads, or only to put them into words for people.
var ignored = map[string]string{
	"Predecessor.how": "words", "Predecessor.reason": "words", "Successor.how": "words", "Successor.reason": "words",
	"giver.to": "words", "Abort.Reason": "words", "Refusal.Reason": "words", "End.Reason": "words",
	"Predecessor.beat": "is sent, and sent back", "Beat.N": "is sent back", "WentRound.N": "is sent back",
	"Predecessor.opt": "is the same everywhere", "giver.opt": "is the same everywhere",
	"giver.giving": "for while a question is open", "receiver.asked": "for while a question is open", "receiver.taking": "for while a question is open",
	"machine.out": "the last step's", "machine.then": "no question is open, see key",
	"giver.machine": "has its own place", "receiver.machine": "has its own place", "world.pm": "see key", "world.sm": "see key",
	"world.log": "the search's", "world.wrong": "the search ends there", "world.doing": "words", "world.reported": "words", "world.handed": "words",
	"world.mutant": "is the same everywhere", "side.name": "is the same everywhere",
}

// special are fields and types of which not all makes a difference.
var special map[string]func(e *encoder, v reflect.Value)

func init() {
	seq := func(whose func(e *encoder) int) func(e *encoder, v reflect.Value) {
		return func(e *encoder, v reflect.Value) { e.int(whose(e) - int(v.Int())) }
	}
	own, others := func(e *encoder) int { return e.ours }, func(e *encoder) int { return e.theirs }
	special = map[string]func(e *encoder, v reflect.Value){
		// Numbers of offers are made by counting, and compared; that they differ matters, and which is newer, not where they began.
		"giver.seq": seq(own), "offer.seq": seq(own), "Take.Seq": seq(own),
		"receiver.seq": seq(others), "Offer.Seq": seq(others), "Give.Seq": seq(others),
		"receiver.offers": func(e *encoder, v reflect.Value) {
			e.sorted(v, func(k reflect.Value) int64 { return int64(e.theirs) - k.Int() }, func(v reflect.Value) { e.any(v) })
		},
		// One too many is as good as two.
		"giver.tries": func(e *encoder, v reflect.Value) {
			e.sorted(v, number, func(n reflect.Value) { e.int(min(int(n.Int()), e.retries+1)) })
		},
		// A list that is only ever gone through in sets.
		"giver.dead": func(e *encoder, v reflect.Value) { e.set(v) },
		// A process dies, or does not.
		"side.actsLeft": func(e *encoder, v reflect.Value) { e.int(max(int(v.Int()), -1)) },
		// How far a session is counts by what its client has seen; how far a side is that does not have it, not at all.
		// A side is written down with its machine, and the other's numbers.
		"side": func(e *encoder, v reflect.Value) {
			x := (*side)(v.Addr().UnsafePointer())
			if e.ours, e.theirs = e.w.pm.giver.seq, e.w.sm.giver.seq; x == &e.w.s {
				e.ours, e.theirs = e.theirs, e.ours
			}
			e.machine(x)
			e.fields(v)
		},
		"sess": func(e *encoder, v reflect.Value) {
			s := *(*sess)(v.Addr().UnsafePointer())
			s.pPos, s.sPos = s.pPos-s.pos, s.sPos-s.pos
			if s.p != ours && s.p != frozen && s.p != pTaken {
				s.pPos = 0
			}
			if s.s != taken && s.s != owned && s.s != sFrozen {
				s.sPos = 0
			}
			s.pos = 0
			e.fields(reflect.ValueOf(&s).Elem())
		},
		"Offer.States": func(e *encoder, v reflect.Value) {}, // see Offer
		"Offer": func(e *encoder, v reflect.Value) {
			e.fields(v)
			o := (*wire.Offer)(v.Addr().UnsafePointer())
			for i, id := range o.IDs {
				var pos int
				cbor.Unmarshal(o.States[i], &pos)
				e.int(pos - e.w.sessions[id].pos)
			}
		},
	}
}

// TestSameStatesGoOnTheSame looks at every 20th world whose key was seen before: what happens next in it has to lead to states with the same
// keys as in the world that was gone into in its place.
func TestSameStatesGoOnTheSame(t *testing.T) {
	for _, sc := range []scenario{scenarios[0], scenarios[1], scenarios[2]} {
		s := newSearch(sc, 1, 0)
		var met int
		var nodes []node
		s.again = func(n node) {
			if met++; met%20 == 0 {
				nodes = append(nodes, n)
			}
		}
		if v := s.run(); v != nil {
			t.Fatal(v.wrong)
		}
		for _, n := range nodes {
			for k, e := range s.events(n.w) {
				w := n.w.clone()
				e.do(w)
				w.watch()
				if follows := s.states[n.at].follows; k >= len(follows) || s.index[w.key()] != follows[k] {
					t.Fatalf("%s leads elsewhere than in a state that is called the same:\n%s", e.name, s.tell(&violation{at: n.at}))
				}
			}
		}
		t.Logf("%s: %d of %d", sc.name, len(nodes), met)
	}
}

var seed = maphash.MakeSeed()

// key stands for all states that are the same as this one.
func (w *world) key() uint64 {
	e := encoder{w: w, b: make([]byte, 0, 1024), retries: w.pm.opt.Retries}
	e.any(reflect.ValueOf(w).Elem())
	return maphash.Bytes(seed, e.b)
}

// An encoder writes down values so that different ones are written differently.
type encoder struct {
	w            *world
	b            []byte
	retries      int
	ours, theirs int // newest offers of the side that is being written down, and of the other
}

func (e *encoder) int(n int) { e.b = binary.AppendVarint(e.b, int64(n)) }

func (e *encoder) machine(x *side) {
	if !x.alive || x.end != nil {
		return // it is not asked any more
	}
	m := reflect.ValueOf(e.w.pm).Elem()
	open := e.w.pm.then
	if x == &e.w.s {
		m, open = reflect.ValueOf(e.w.sm).Elem(), e.w.sm.then
	}
	if open != nil {
		panic(x.name + " waits for an answer between two steps")
	}
	e.any(m)
}

func (e *encoder) any(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		n := 0
		if v.Bool() {
			n = 1
		}
		e.int(n)
	case reflect.Int, reflect.Int64:
		e.b = binary.AppendVarint(e.b, v.Int())
	case reflect.Uint8, reflect.Uint64:
		e.b = binary.AppendUvarint(e.b, v.Uint())
	case reflect.String:
		e.int(v.Len())
		e.b = append(e.b, v.String()...)
	case reflect.Slice, reflect.Array:
		e.int(v.Len())
		for i := range v.Len() {
			e.any(v.Index(i))
		}
	case reflect.Map:
		e.sorted(v, number, e.any)
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			e.int(0)
			return
		}
		e.value(v.Elem())
	case reflect.Struct:
		plan := planOf(v.Type())
		if plan.whole != nil {
			plan.whole(e, v)
			return
		}
		e.fields(v)
	default:
		panic(fmt.Sprintf("what of a %v makes a difference?", v.Type()))
	}
}

// value writes down what a pointer or an interface leads to.
func (e *encoder) value(v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	e.int(1)
	e.b = append(e.b, v.Type().Name()...)
	e.any(v)
}

func (e *encoder) fields(v reflect.Value) {
	for _, f := range planOf(v.Type()).fields {
		if f.special != nil {
			f.special(e, v.Field(f.index))
		} else {
			e.any(v.Field(f.index))
		}
	}
}

// number puts keys of maps in an order.
func number(k reflect.Value) int64 {
	switch {
	case k.CanInt():
		return k.Int()
	case k.CanUint():
		return int64(k.Uint())
	}
	var n int64 // of the first letters, which are enough
	for i := range 8 {
		if n <<= 7; i < k.Len() {
			n |= int64(k.Index(i).Uint())
		}
	}
	return n
}

func (e *encoder) sorted(m reflect.Value, number func(k reflect.Value) int64, value func(v reflect.Value)) {
	type entry struct {
		n int64
		v reflect.Value
	}
	entries := make([]entry, 0, 10)
	for it := m.MapRange(); it.Next(); {
		entries = append(entries, entry{number(it.Key()), it.Value()})
	}
	slices.SortFunc(entries, func(a, b entry) int { return int(a.n - b.n) })
	e.int(len(entries))
	for _, entry := range entries {
		e.b = binary.AppendVarint(e.b, entry.n)
		value(entry.v)
	}
}

func (e *encoder) set(list reflect.Value) {
	var ids []uint64
	for i := range list.Len() {
		ids = append(ids, list.Index(i).Uint())
	}
	slices.Sort(ids)
	e.int(len(ids))
	for _, id := range ids {
		e.b = binary.AppendUvarint(e.b, id)
	}
}

// A plan says what of a struct is written down.
type plan struct {
	whole  func(e *encoder, v reflect.Value) // not by its fields; nil = by them
	fields []field
}

type field struct {
	index   int
	special func(e *encoder, v reflect.Value)
}

var plans sync.Map // reflect.Type: *plan

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{whole: special[t.Name()]}
	for i := range t.NumField() {
		name := t.Name() + "." + t.Field(i).Name
		if ignored[name] == "" {
			p.fields = append(p.fields, field{i, special[name]})
		}
	}
	plans.Store(t, p)
	return p
}
