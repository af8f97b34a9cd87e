package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// Hash is a SHA-256, in hex as text. The zero Hash stands before a file's first event.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes 64 lower-case hex digits.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("hash %q: want %d hex digits", text, 2*len(h))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// An Event is one line of a run's story. Its bytes in the file hold the hash of the event before, so none can be changed, dropped or
// moved without every later one showing it.
type Event struct {
	Seq     uint64    `json:"seq"` // 1, 2, 3 … within the file
	Wall    time.Time `json:"wall"`
	Mono    int64     `json:"mono"` // CLOCK_MONOTONIC, ns
	Handoff string    `json:"handoff,omitempty"`
	Kind    string    `json:"kind"`
	Prev    Hash      `json:"prev"`
	Data    Data      `json:"data"`

	Hash Hash `json:"-"` // of the bytes in the file
}

// encodeEvent returns an event's bytes: e with data, already in JSON, in the place of e.Data.
func encodeEvent(e Event, data json.RawMessage) ([]byte, error) {
	type plain Event
	b, err := json.Marshal(struct {
		plain
		Data json.RawMessage `json:"data"`
	}{plain(e), data})
	if err != nil {
		return nil, fmt.Errorf("journal: encode event %d (%s): %w", e.Seq, e.Kind, err)
	}
	return b, nil
}

// encodeData returns what d says in JSON.
func encodeData(d Data) (json.RawMessage, error) {
	if _, ok := kinds[d.Kind()]; !ok {
		return nil, fmt.Errorf("journal: no event is called %q", d.Kind())
	}
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("journal: encode %s: %w", d.Kind(), err)
	}
	return b, nil
}

// decodeEvent reads what encodeEvent wrote.
func decodeEvent(b []byte) (Event, error) {
	type plain Event
	var raw struct {
		plain
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return Event{}, err
	}
	e := Event(raw.plain)
	e.Hash = sha256.Sum256(b)
	data, err := decodeData(e.Kind, raw.Data)
	e.Data = data
	return e, err
}

// kinds has a zero value of every Data that can be in a file.
var kinds = func() map[string]Data {
	m := map[string]Data{}
	for _, d := range []Data{
		Started{}, Move{}, Listener{}, Sealed{},
		Handoff{}, Hello{}, Welcome{}, Lend{}, Offer{}, Take{}, Give{}, Done{}, Bye{},
		Refused{}, Abort{}, Returned{}, Fence{}, PeerDied{}, Unsealed{}, Verdict{}, Closed{},
		Gap{}, Withdrawn{}, Aside{},
	} {
		m[d.Kind()] = d
	}
	return m
}()

func decodeData(kind string, b []byte) (Data, error) {
	zero, ok := kinds[kind]
	if !ok {
		return Unknown{Name: kind, JSON: b}, nil
	}
	v := reflect.New(reflect.TypeOf(zero))
	if err := json.Unmarshal(b, v.Interface()); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return v.Elem().Interface().(Data), nil
}
