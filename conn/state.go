package conn

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// A State is everything about a frozen session that is not in its socket. It travels as CBOR with integer keys. A key, once given,
// keeps its meaning; a reader passes over keys that it does not know.
type State struct {
	ID       ID             `cbor:"1,keyasint"`
	Protocol string         `cbor:"2,keyasint"`
	Peer     netip.AddrPort `cbor:"3,keyasint"`
	Opened   int64          `cbor:"4,keyasint"` // unix ns

	Read    uint64 `cbor:"5,keyasint"`           // bytes read from the socket since the session was opened
	Written uint64 `cbor:"6,keyasint"`           // bytes that the socket has taken
	In      []byte `cbor:"7,keyasint,omitempty"` // read, not consumed
	Out     []byte `cbor:"8,keyasint,omitempty"` // accepted by Write, not taken by the socket

	ReadLeft  time.Duration `cbor:"9,keyasint,omitempty"`  // until the read timeout; 0 = not running
	WriteLeft time.Duration `cbor:"10,keyasint,omitempty"` // until the write timeout; 0 = not running
	Flags     Flags         `cbor:"11,keyasint,omitempty"`
	Reason    string        `cbor:"12,keyasint,omitempty"` // why the session is ending

	Version int    `cbor:"13,keyasint,omitempty"` // of Saved
	Saved   []byte `cbor:"14,keyasint,omitempty"` // by the handler
}

// Flags of a State.
type Flags uint8

const (
	FlagEOF   Flags = 1 << iota // the peer's FIN was read
	FlagEnded                   // Serve is not to be called any more
	FlagShut                    // our FIN was sent
	FlagHeld                    // Serve is owed a call: output was full, and it was not shown all input

	flagsKnown = FlagEOF | FlagEnded | FlagShut | FlagHeld
)

// flags wants c.mu held.
func (c *Conn) flags() (flags Flags) {
	for _, b := range []struct {
		on   bool
		flag Flags
	}{{c.input.eof, FlagEOF}, {c.input.ended, FlagEnded}, {c.input.shut, FlagShut}, {c.held, FlagHeld}} {
		if b.on {
			flags |= b.flag
		}
	}
	return flags
}

// setFlags leaves alone what epoll has said of the socket here. It wants c.mu held.
func (c *Conn) setFlags(flags Flags) {
	c.input.eof, c.input.ended, c.input.shut = flags&FlagEOF != 0, flags&FlagEnded != 0, flags&FlagShut != 0
	c.held = flags&FlagHeld != 0
}

// A Late is what happened to a session between Freeze and Give.
type Late struct {
	ID     ID     `cbor:"1,keyasint"`
	Out    []byte `cbor:"2,keyasint,omitempty"` // accepted by Write after the Freeze
	Closed bool   `cbor:"3,keyasint,omitempty"` // Close was called
	Reason string `cbor:"4,keyasint,omitempty"` // with this reason
}

var decoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{MaxArrayElements: 1 << 16, MaxMapPairs: 1 << 10, MaxNestedLevels: 8, DupMapKey: cbor.DupMapKeyEnforcedAPF}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// Marshal encodes a state.
func (s *State) Marshal() ([]byte, error) { return cbor.Marshal(s) }

// Unmarshal decodes a state and checks it against itself.
func (s *State) Unmarshal(data []byte) error {
	*s = State{}
	if err := decoding.Unmarshal(data, s); err != nil {
		return fmt.Errorf("conn: state: %w", err)
	}
	switch {
	case s.ID == 0:
		return fmt.Errorf("conn: state without a session id")
	case uint64(len(s.In)) > s.Read:
		return fmt.Errorf("conn: state of %v holds %d bytes of input, of %d read", s.ID, len(s.In), s.Read)
	case s.Flags&^flagsKnown != 0:
		return fmt.Errorf("conn: state of %v has unknown flags %#x", s.ID, s.Flags)
	case s.ReadLeft < 0 || s.WriteLeft < 0:
		return fmt.Errorf("conn: state of %v has a negative timeout", s.ID)
	}
	return nil
}

// StateVersions says, for each protocol, which state versions this server reads: what a giver must know before it moves anything.
func (s *Server) StateVersions() map[string][]int {
	versions := map[string][]int{}
	for name, p := range s.protocols {
		versions[name] = slices.Clone(p.Reads)
	}
	return versions
}

// Negotiate chooses, for each of our protocols, the state version to write for a receiver that reads these. The error names the first
// protocol, or state version, that the receiver lacks.
func (s *Server) Negotiate(reads map[string][]int) (map[string]int, error) {
	chosen := map[string]int{}
	for name, p := range s.protocols {
		theirs, ok := reads[name]
		if !ok {
			if s.uses(p) {
				return nil, fmt.Errorf("protocol %q is in use and not known there", name)
			}
			continue
		}
		v, ok := p.pick(theirs)
		if !ok {
			return nil, fmt.Errorf("state of protocol %q: versions %v can be written here, %v be read there", name, p.Writes, theirs)
		}
		chosen[name] = v
	}
	return chosen, nil
}

// uses reports whether a session or a listener of ours speaks p.
func (s *Server) uses(p *Protocol) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if l != nil && l.proto == p {
			return true
		}
	}
	for _, c := range s.conns {
		if c.proto == p {
			return true
		}
	}
	return false
}
