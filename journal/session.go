package journal

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// A Place says where a session stands in a handoff, as seen by the run whose file has it.
type Place byte

// The places. Zero is Own, so that a session that was simply accepted needs no mention.
const (
	Own     Place = iota // served here
	Lent                 // served here; the peer has a copy of its socket
	Offered              // frozen here; its state is with the peer
	Taken                // the peer offered it, and it was taken; not served here yet
	Given                // served by the peer from then on
)

var places = [...]string{Own: "own", Lent: "lent", Offered: "offered", Taken: "taken", Given: "given"}

func (p Place) String() string {
	if int(p) < len(places) {
		return places[p]
	}
	return fmt.Sprintf("place %d", byte(p)) // a later version's
}

// MarshalText writes the place's name.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// A Session is a row of the file: a live connection and its addresses, never what it carries.
type Session struct {
	ID       ID             `json:"-"` // the row's key
	Place    Place          `json:"-"` // the row's first byte
	Cookie   uint64         `json:"cookie,omitempty"`
	Peer     netip.AddrPort `json:"peer,omitzero"`
	Protocol string         `json:"protocol"`
	Opened   time.Time      `json:"opened"`         // zero = now
	Read     uint64         `json:"read,omitempty"` // bytes before it came here
	Written  uint64         `json:"written,omitempty"`
}

// A ClosedSession is one of the last sessions to end, kept for debugging.
type ClosedSession struct {
	ID       ID             `json:"id"`
	Peer     netip.AddrPort `json:"peer,omitzero"`
	Protocol string         `json:"protocol"`
	Opened   time.Time      `json:"opened"`
	Closed   time.Time      `json:"closed"`
	Reason   string         `json:"reason"`
	Read     uint64         `json:"read"`    // bytes
	Written  uint64         `json:"written"` // bytes
}

// Counters count what the rows no longer show. They only grow.
type Counters struct {
	Opened  uint64 `json:"opened"`  // sessions accepted by this run
	Adopted uint64 `json:"adopted"` // sessions that arrived from another run
	Closed  uint64 `json:"closed"`  // sessions that ended here
	Read    uint64 `json:"read"`    // bytes, of the ended ones
	Written uint64 `json:"written"` // bytes, of the ended ones
	Lost    uint64 `json:"lost"`    // events that could not be kept
	Refused uint64 `json:"refused"` // events whose asker was told that they are not in the file
}

// MarshalJSON gives a session its id and place.
func (s Session) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID    ID    `json:"id"`
		Place Place `json:"place"`
		row
	}{s.ID, s.Place, row(s)})
}
