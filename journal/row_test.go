package journal

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A row is written by hand, and reads as if encoding/json had written it.
func TestRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Session{
			ID: 1, Place: Place(rapid.Byte().Draw(t, "place")), Protocol: rapid.String().Draw(t, "protocol"),
			Cookie: rapid.Uint64().Draw(t, "cookie"), Read: rapid.Uint64().Draw(t, "read"), Written: rapid.Uint64().Draw(t, "written"),
			Opened: time.Unix(rapid.Int64Range(-1<<34, 1<<36).Draw(t, "s"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).In(
				time.FixedZone("", 60*rapid.IntRange(-720, 840).Draw(t, "zone"))),
		}
		if rapid.Bool().Draw(t, "has a peer") {
			addr, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
			if rapid.Bool().Draw(t, "IPv4") {
				addr = addr.Unmap()
			}
			s.Peer = netip.AddrPortFrom(addr.WithZone(rapid.SampledFrom([]string{"", "", "eth0", `a"b`}).Draw(t, "zone")), rapid.Uint16().Draw(t, "port"))
		}
		got, err := appendRow([]byte("before"), s)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(row(s))
		if err != nil {
			t.Fatal(err)
		}
		if want = append([]byte("before"+string([]byte{byte(s.Place)})), want...); string(got) != string(want) {
			t.Errorf("\ngot  %q\nwant %q", got, want)
		}
	})
	if _, err := appendRow(nil, Session{Opened: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("a year of five digits is no JSON time, and was written")
	}
}
