package journal

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// A row of the file is a byte for the session's place, then the session as JSON without its id, which is the key. So a place changes without
// the rest being read.

// row is a Session as its row has it.
type row Session

// appendRow writes a session's row, as json.Marshal would, without its reflection and garbage: a handoff of many sessions writes one for each.
func appendRow(b []byte, s Session) ([]byte, error) {
	if year := s.Opened.Year(); year < 0 || year > 9999 {
		return nil, fmt.Errorf("journal: encode session %s: opened in the year %d", s.ID, year)
	}
	b = append(b, byte(s.Place), '{')
	if s.Cookie != 0 {
		b = append(b, `"cookie":`...)
		b = append(strconv.AppendUint(b, s.Cookie, 10), ',')
	}
	if s.Peer != (netip.AddrPort{}) {
		text, err := s.Peer.MarshalText()
		if err != nil {
			return nil, fmt.Errorf("journal: encode session %s: %w", s.ID, err)
		}
		b = append(b, `"peer":`...)
		b = append(appendJSON(b, string(text)), ',')
	}
	b = append(b, `"protocol":`...)
	b = appendJSON(b, s.Protocol)
	b = append(b, `,"opened":"`...)
	b = append(s.Opened.AppendFormat(b, time.RFC3339Nano), '"')
	if s.Read != 0 {
		b = append(b, `,"read":`...)
		b = strconv.AppendUint(b, s.Read, 10)
	}
	if s.Written != 0 {
		b = append(b, `,"written":`...)
		b = strconv.AppendUint(b, s.Written, 10)
	}
	return append(b, '}'), nil
}

// appendJSON writes a string.
func appendJSON(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			v, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string always encodes
			}
			return append(b, v...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func decodeSession(id ID, v []byte) (Session, error) {
	if len(v) == 0 {
		return Session{}, fmt.Errorf("%w: session %s has an empty row", ErrDamaged, id)
	}
	var r row
	if err := json.Unmarshal(v[1:], &r); err != nil {
		return Session{}, fmt.Errorf("%w: session %s: %w", ErrDamaged, id, err)
	}
	s := Session(r)
	s.ID, s.Place = id, Place(v[0])
	return s, nil
}
