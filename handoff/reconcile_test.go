package handoff

import (
	"maps"
	"slices"
	"testing"

	"baton/conn"
	"baton/handoff/protocol"
	"baton/handoff/wire"
	"baton/journal"
)

// A session is in two files at most, and what they say of it may be a group commit old.
func TestInNoHands(t *testing.T) {
	const absent, closed, kept = journal.Place(100), journal.Place(101), journal.Place(102) // 102: the row is gone, for it stayed with the other
	for _, c := range []struct {
		name   string
		a, b   journal.Place
		nobody bool
	}{
		{"given, and the other knows nothing of it", journal.Given, absent, true},
		{"given, and the other has its state", journal.Given, journal.Taken, true},
		{"given, and noted there", journal.Given, journal.Own, false},
		{"given, and lent back", journal.Given, journal.Lent, false},
		{"given, and on its way back", journal.Given, journal.Offered, false},
		{"given back, and not noted", journal.Given, journal.Given, true},
		{"given back, and its state is here", journal.Taken, journal.Given, true},
		{"accepted there, given back, and not noted", absent, journal.Given, true},
		{"given back, and noted", journal.Own, journal.Given, false},
		{"given, and it ended there", journal.Given, closed, false},
		{"given back, and it ended here", closed, journal.Given, false},
		{"given at the second try", journal.Given, kept, true},
		{"never given", journal.Own, journal.Taken, false},
		{"offered", journal.Offered, journal.Taken, false},
	} {
		var logs [2]journal.RunLog
		for i, place := range []journal.Place{c.a, c.b} {
			switch place {
			case absent:
			case closed:
				logs[i].Closed = []journal.ClosedSession{{ID: 7, Reason: "end of stream"}}
			case kept:
				logs[i].Closed = []journal.ClosedSession{{ID: 7, Reason: stayed}}
			default:
				logs[i].Sessions = []journal.Session{{ID: 7, Place: place}}
			}
		}
		want := []conn.ID(nil)
		if c.nobody {
			want = []conn.ID{7}
		}
		if got := inNoHands(logs[0], logs[1]); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
}

// Run 2 gave everything back to run 1 and left, and so did run 3; run 1 died before it had noted what came from run 3.
func TestLostWithWhatWasGivenBack(t *testing.T) {
	log := func(sealed bool, places map[conn.ID]journal.Place, events ...journal.Data) (l journal.RunLog) {
		l.Sealed = sealed
		for _, id := range slices.Sorted(maps.Keys(places)) {
			l.Sessions = append(l.Sessions, journal.Session{ID: id, Place: places[id]})
		}
		for _, e := range events {
			l.Events = append(l.Events, journal.Event{Data: e})
		}
		return l
	}
	p := past{giver: map[int]int{2: 1, 3: 1}, logs: map[int]journal.RunLog{
		1: log(false, map[conn.ID]journal.Place{7: journal.Own, 8: journal.Given}),
		2: log(true, map[conn.ID]journal.Place{6: journal.Given, 7: journal.Given, 8: journal.Given}), // 6 ended long ago
		3: log(true, map[conn.ID]journal.Place{7: journal.Given, 8: journal.Given, 9: journal.Given}),
	}}
	if got, want := p.lostWith(1), []conn.ID{7, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("run 3 has given everything back: %v, want %v", got, want)
	}
	p.logs[3] = log(true, map[conn.ID]journal.Place{8: journal.Given}, journal.Bye{})
	if got, want := p.lostWith(1), []conn.ID{7}; !slices.Equal(got, want) {
		t.Errorf("run 3 went on, and stopped later: %v, want %v", got, want)
	}
	p.logs[3] = log(true, map[conn.ID]journal.Place{8: journal.Given, 9: journal.Given, 10: journal.Given})
	p.logs[1] = log(false, map[conn.ID]journal.Place{7: journal.Own, 8: journal.Given}, journal.Hello{Run: 2}, journal.Returned{}, journal.Hello{Run: 3})
	if got, want := p.lostWith(1), []conn.ID{7, 8, 9, 10}; !slices.Equal(got, want) {
		t.Errorf("run 2 has given everything back, and was noted, and run 3 was not: %v, want %v", got, want)
	}
	// Long after: 9 and 10 have ended, and so many others since that nothing is left of them.
	p.logs[1] = log(false, map[conn.ID]journal.Place{7: journal.Own, 8: journal.Own}, journal.Hello{Run: 3}, journal.Returned{})
	if got, want := p.lostWith(1), []conn.ID{7, 8}; !slices.Equal(got, want) {
		t.Errorf("run 3 has given everything back, long ago: %v, want %v", got, want)
	}
	// Run 3 stopped without the leave of run 1: what it was given has ended there, too long ago to be told.
	p.logs[1] = log(false, map[conn.ID]journal.Place{7: journal.Own, 8: journal.Given, 9: journal.Given}, journal.Hello{Run: 3})
	p.logs[3] = log(true, map[conn.ID]journal.Place{9: journal.Taken})
	if got, want := p.lostWith(1), []conn.ID{7, 9}; !slices.Equal(got, want) {
		t.Errorf("run 3 has stopped: %v, want %v", got, want)
	}
}

// A session that was given ends there, and the other run is told: should both die, it is not looked for among the last to end.
func TestEndedThereIsNoted(t *testing.T) {
	j, err := journal.Create(t.TempDir(), journal.Run{}, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := conn.New(conn.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	g := &giving{side: side{r: &run{journal: j, srv: srv}}}
	for _, id := range []journal.ID{7, 8} {
		j.Opened(journal.Session{ID: id, Place: journal.Given})
	}
	g.noteInput(protocol.Received{Message: &wire.Closed{IDs: []conn.ID{7}}})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := journal.Read(j.Path())
	if err != nil || len(l.Sessions) != 1 || l.Sessions[0].ID != 8 {
		t.Errorf("left are %v, %v", l.Sessions, err)
	}
}
