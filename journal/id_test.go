package journal

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestIDsText(t *testing.T) {
	for _, c := range []struct {
		ids  []ID
		text string
	}{
		{nil, ""},
		{[]ID{id(7, 300)}, "7-300"},
		{[]ID{id(7, 2), id(7, 1), id(7, 3), id(7, 2)}, "7-1..3"},
		{[]ID{id(7, 300), id(6, 9), id(7, 1), id(7, 2)}, "6-9 7-1..2 7-300"},
		{[]ID{id(6, 1<<40-1), id(7, 0)}, "6-1099511627775 7-0"}, // neighbours as numbers, not as sessions
		{[]ID{1<<64 - 1, 1<<64 - 2}, "16777215-1099511627774..1099511627775"},
	} {
		if got := IDsOf(c.ids).String(); got != c.text {
			t.Errorf("%v: got %q, want %q", c.ids, got, c.text)
		}
	}
}

func TestIDsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few runs and small counters, so that ranges form and meet.
		one := rapid.Custom(func(t *rapid.T) uint64 {
			return uint64(id(rapid.IntRange(0, 2).Draw(t, "run"), rapid.IntRange(0, 40).Draw(t, "n")))
		})
		ids := IDs(rapid.SliceOf(one).Draw(t, "ids"))
		var back IDs
		if err := back.UnmarshalText([]byte(ids.String())); err != nil {
			t.Fatal(err)
		}
		want := IDs(slices.Compact(slices.Sorted(slices.Values(ids))))
		if !slices.Equal(back, want) {
			t.Fatalf("%v comes back as %v", want, back)
		}
	})
}

func TestIDsRefuse(t *testing.T) {
	for _, s := range []string{" ", "7-1 ", "7-1  7-3", "7-3 7-1", "7-1 7-1", "7-1 7-2", "7-1..2 7-3", "7-2..1", "7-1..1", "7-1..", "..2", "7-1..8-2",
		"7-1..1099511627775", "7-1..02"} {
		var ids IDs
		if err := ids.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is read as %v, want an error", s, ids)
		}
	}
}

// What can be read is written back the same, byte for byte.
func FuzzIDs(f *testing.F) {
	for _, s := range []string{"", "7-1", "7-1..252 7-300", "6-9 7-0", "7-1 7-2", "16777215-1099511627774..1099511627775"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var ids IDs
		if ids.UnmarshalText([]byte(s)) == nil && ids.String() != s {
			t.Errorf("%q is written back as %q", s, ids)
		}
	})
}
