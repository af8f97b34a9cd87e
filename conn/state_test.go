package conn_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"baton/conn"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Byte()).Draw(t, "in")
		s := conn.State{
			ID:       conn.ID(rapid.Uint64Min(1).Draw(t, "id")),
			Protocol: rapid.String().Draw(t, "protocol"),
			Peer:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip"))), rapid.Uint16().Draw(t, "port")),
			Opened:   rapid.Int64().Draw(t, "opened"),
			Read:     uint64(len(in)) + rapid.Uint64Max(1<<62).Draw(t, "read"), Written: rapid.Uint64().Draw(t, "written"),
			In: in, Out: rapid.SliceOf(rapid.Byte()).Draw(t, "out"),
			ReadLeft: time.Duration(rapid.Int64Min(0).Draw(t, "readLeft")), WriteLeft: time.Duration(rapid.Int64Min(0).Draw(t, "writeLeft")),
			Flags:   conn.Flags(rapid.Uint8Range(0, 15).Draw(t, "flags")),
			Version: rapid.Int().Draw(t, "version"), Saved: rapid.SliceOf(rapid.Byte()).Draw(t, "saved"),
		}
		data, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var back conn.State
		if err := back.Unmarshal(data); err != nil {
			t.Fatal(err)
		}
		empty := cmp.Transformer("empty", func(b []byte) string { return string(b) }) // nil and empty are the same
		if diff := cmp.Diff(s, back, empty, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A state of a later version may have more keys; one that contradicts itself is refused.
func TestStateUnmarshal(t *testing.T) {
	for name, tt := range map[string]struct {
		data any
		ok   bool
	}{
		"smallest":               {map[int]any{1: 1}, true},
		"unknown key":            {map[int]any{1: 1, 99: "x"}, true},
		"no id":                  {map[int]any{2: "ping"}, false},
		"more input than read":   {map[int]any{1: 1, 5: 3, 7: []byte("four")}, false},
		"input all that is read": {map[int]any{1: 1, 5: 4, 7: []byte("four")}, true},
		"unknown flag":           {map[int]any{1: 1, 11: 16}, false},
		"negative timeout":       {map[int]any{1: 1, 9: -1}, false},
		"not a map":              {[]int{1}, false},
	} {
		data, err := cbor.Marshal(tt.data)
		if err != nil {
			t.Fatal(err)
		}
		var s conn.State
		if err := s.Unmarshal(data); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing that can be sent as a state makes us panic, and what is understood means the same once more.
func FuzzState(f *testing.F) {
	seed := conn.State{ID: 1, Protocol: "ping", Read: 4, In: []byte("ping"), Out: []byte("pong"), ReadLeft: time.Second, Saved: []byte{1}}
	data, err := seed.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{0xa1, 0x01, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		var s conn.State
		if s.Unmarshal(data) != nil {
			return
		}
		once, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var again conn.State
		if err := again.Unmarshal(once); err != nil {
			t.Fatalf("understood once, not twice: %v", err)
		}
		twice, err := again.Marshal()
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x, then %x, %v", once, twice, err)
		}
	})
}
