package session

import (
	"testing"

	"pgregory.net/rapid"
)

func TestIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		run := rapid.IntRange(0, 1<<24-1).Draw(t, "run")
		n := rapid.Uint64Range(0, 1<<40-1).Draw(t, "n")
		id := MakeID(run, n)
		if id.Run() != run || id.N() != n {
			t.Fatalf("MakeID(%d, %d) came apart as %d, %d", run, n, id.Run(), id.N())
		}
		back, err := ParseID(id.String())
		if err != nil || back != id {
			t.Fatalf("ParseID(%q) = %v, %v", id, back, err)
		}
	})
}

func TestParseIDRefuses(t *testing.T) {
	for _, s := range []string{"", "7", "-", "7-", "-7", "7-x", "16777216-1", "1-1099511627776", "1-2-3", " 1-2", "01-2", "1-02", "+1-2"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %v, want an error", s, id)
		}
	}
}
