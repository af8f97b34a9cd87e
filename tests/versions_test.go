package tests

import (
	"strings"
	"testing"
)

// Successors and predecessors of other versions of the handoff, and of sessions' states: real servers, made of the same source (variants_test.go).

// Where there is a version in common, all works at that one, there and back, whatever else the other one says.
func TestOtherVersionOfTheHandoff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		env  []string
	}{
		{"previous and this", []string{"SPEAKS=0 1", "FIRST=0"}},
		{"this and next", []string{"SPEAKS=1 2", "FIRST=2", "KEYS=more"}},
		{"next and this", []string{"SPEAKS=2 1", "FIRST=1", "KEYS=more"}},
		{"states of the next, too", []string{"SPEAKS=2 1", "FIRST=2", "KEYS=more", "READS=1 2", "WRITES=2 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			s.start("-read-timeout", "1m", "-probation", "300ms")
			idle := idlers(t, s.addr(loopback), 300)
			crowd := newCrowd(t, s.addr(loopback), fewOfEach()...)
			theirs := s.asOther("theirs", tt.env...)
			for i, binary := range []string{theirs, theirs, programs.server, theirs} {
				if r := s.run("-upgrade", "-check", "-binary", binary); r.code != 0 {
					t.Errorf("-check exits %d: %s%s", r.code, r.stdout, r.stderr)
				}
				s.upgrade("-binary", binary)
				want := map[bool]string{true: versionOne, false: versionOther}[binary == programs.server]
				if st := s.status(); st.Version != want || st.LastHandoff.Moved < len(idle) {
					t.Errorf("upgrade %d: version %s, want %s; %+v", i+1, st.Version, want, st.LastHandoff)
				}
				checkIdlers(t, idle)
				s.alone() // both have said BYE
			}
			crowd.check()
			s.replay()
		})
	}
}

// Where there is none, the upgrade is refused before anything moves, with a sentence that names both.
func TestNoVersionInCommon(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		ours   []string // of the server; nil = an ordinary one
		theirs []string // of its successor
		want   string
		dumb   bool // the server cannot really speak what it says it does
	}{
		{"next only", nil, []string{"SPEAKS=2", "FIRST=2", "KEYS=more"}, "the successor speaks versions [2] of the handoff, this run speaks 1", false},
		{"previous only", nil, []string{"SPEAKS=0", "FIRST=0"}, "the successor speaks versions [0] of the handoff, this run speaks 1", false},
		{"back from the next", []string{"SPEAKS=2", "FIRST=2", "KEYS=more"}, nil, "the successor speaks versions [1] of the handoff, this run speaks 2", true},
		{"one that was not offered", []string{"FIRST=2", "KEYS=more", "CHOOSES=2"}, nil, "the predecessor chose version 2 of the handoff, this run speaks 1", true},
		{"next state only", nil, []string{"READS=2"}, `state of protocol "ping": versions [1] can be written here, [2] be read there`, false},
		{"back from the next state", []string{"READS=1 2", "WRITES=2"}, nil, `state of protocol "ping": versions [2] can be written here, [1] be read there`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			program := func(name string, env []string) string {
				if env == nil {
					return programs.server
				}
				return s.asOther(name, env...)
			}
			ours, theirs := program("ours", tt.ours), program("theirs", tt.theirs)
			s.startAs(ours, "-listen", loopback, "-read-timeout", "1m", "-probation", "300ms")
			idle := idlers(t, s.addr(loopback), 30)
			before := descriptors(t, s.pid())
			wantRolledBack(t, s, s.run("-upgrade", "-binary", theirs), tt.want)
			if events := s.eventsOf(1); strings.Contains(events, " lend ") && tt.name != "one that was not offered" { // it lends at once
				t.Errorf("something was lent: %s", events)
			}
			if events := s.eventsOf(2); tt.name == "one that was not offered" && !strings.Contains(events, " refused ") {
				t.Errorf("the successor's journal does not say that it refused: %s", events)
			}
			wantRolledBack(t, s, s.run("-upgrade", "-check", "-binary", theirs), tt.want)
			checkIdlers(t, idle)
			checkDescriptors(t, s, before)
			if !tt.dumb {
				s.upgrade("-binary", ours)
				checkIdlers(t, idle)
				s.alone()
			}
			s.replay()
		})
	}
}
