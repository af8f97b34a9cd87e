package wire

import (
	"fmt"

	"baton/internal/session"

	"github.com/fxamacker/cbor/v2"
)

// Version is the version of the conversation that this package speaks.
const Version = 1

// ID names a session.
type ID = session.ID

// A Type says what a frame is.
type Type uint8

// The types of message. Zero is invalid; a number, once given, keeps its meaning.
const (
	THello   Type = 1
	TWelcome Type = 2
	TLend    Type = 3
	TOffer   Type = 4
	TTake    Type = 5
	TGive    Type = 6
	TClosed  Type = 7
	TDone    Type = 8
	TBye     Type = 9
	TAbort   Type = 10
	TBeat    Type = 11
)

var typeNames = map[Type]string{
	THello: "HELLO", TWelcome: "WELCOME", TLend: "LEND", TOffer: "OFFER", TTake: "TAKE", TGive: "GIVE",
	TClosed: "CLOSED", TDone: "DONE", TBye: "BYE", TAbort: "ABORT", TBeat: "BEAT",
}

func (t Type) String() string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// A Message is one of the types below, by pointer.
type Message interface{ Type() Type }

// Hello is the successor's first message, sent when it is ready to adopt.
type Hello struct {
	Versions []uint8          `cbor:"1,keyasint"`           // of the conversation, that the sender speaks
	Run      int              `cbor:"2,keyasint"`           // the sender's number
	Build    string           `cbor:"3,keyasint"`           // version of its program
	SHA256   []byte           `cbor:"4,keyasint,omitempty"` // of its binary
	NoFile   uint64           `cbor:"5,keyasint"`           // RLIMIT_NOFILE; how many descriptors it may hold
	Open     uint64           `cbor:"6,keyasint"`           // how many it holds
	States   map[string][]int `cbor:"7,keyasint"`           // for each protocol, the state versions it reads
	Takeover bool             `cbor:"8,keyasint,omitempty"` // it was not started by the predecessor
}

// Welcome answers a Hello. With it come the listeners' sockets, in order, and then the workspace's lock.
type Welcome struct {
	Version   uint8          `cbor:"1,keyasint"`           // chosen among the Hello's
	Run       int            `cbor:"2,keyasint"`           // the sender's number
	Handoff   string         `cbor:"3,keyasint"`           // id of the handoff
	Listeners []string       `cbor:"4,keyasint"`           // URLs
	Sessions  int            `cbor:"5,keyasint"`           // that are about to come
	Check     bool           `cbor:"6,keyasint,omitempty"` // nothing is about to come: say whether it could, by an Abort
	Began     int64          `cbor:"7,keyasint"`           // when the handoff was asked for; CLOCK_MONOTONIC ns
	States    map[string]int `cbor:"8,keyasint"`           // for each protocol, the version of the states that are about to come
}

// Lend brings copies of sockets, one for each id, which stay the giver's.
type Lend struct {
	Batch   int      `cbor:"1,keyasint"` // 1, 2, 3 …
	IDs     []ID     `cbor:"2,keyasint"`
	Cookies []uint64 `cbor:"3,keyasint"` // SO_COOKIE of each socket
	Slots   []int    `cbor:"4,keyasint"` // of each session on the slate; -1 = none
}

// Offer brings the states of sessions that are frozen from FrozenAt on. All of them were lent.
type Offer struct {
	Seq      int               `cbor:"1,keyasint"` // 1, 2, 3 …
	FrozenAt int64             `cbor:"2,keyasint"` // CLOCK_MONOTONIC ns, before the first of them was frozen
	IDs      []ID              `cbor:"3,keyasint"`
	States   []cbor.RawMessage `cbor:"4,keyasint"` // one for each id; of package conn
}

// Take answers an Offer: each of its sessions is either taken or refused.
type Take struct {
	Seq     int       `cbor:"1,keyasint"`           // the Offer's
	IDs     []ID      `cbor:"2,keyasint"`           // taken
	Refused []Refusal `cbor:"3,keyasint,omitempty"` // all the others
}

// A Refusal says why a session was not taken.
type Refusal struct {
	ID     ID     `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint"` // for people
}

// Give makes the sessions taken the receiver's.
type Give struct {
	Seq   int               `cbor:"1,keyasint"`           // the Offer's
	IDs   []ID              `cbor:"2,keyasint"`           // those of the Take
	Lates []cbor.RawMessage `cbor:"3,keyasint,omitempty"` // what happened to some of them since the Offer; of package conn
}

// Closed names sessions, lent or given, that have ended: the other side drops what it holds of them.
type Closed struct {
	IDs []ID `cbor:"1,keyasint"`
}

// Done is said by the giver when it has stopped accepting and all that can move has moved; and in answer by the receiver when it
// accepts.
type Done struct {
	Moved      int   `cbor:"1,keyasint"`           // sessions given, as the sender counts
	Stragglers int   `cbor:"2,keyasint,omitempty"` // still busy in the giver; they follow one by one
	Pause      Pause `cbor:"3,keyasint"`           // measured by the receiver
}

// Pause is the distribution of the time from freeze to resumed reading.
type Pause struct {
	P50  int64 `cbor:"1,keyasint"` // median; ns, as are the others
	P99  int64 `cbor:"2,keyasint"` // 99 of 100 are shorter
	P999 int64 `cbor:"3,keyasint"` // 999 of 1000 are shorter
	Max  int64 `cbor:"4,keyasint"` // the longest
}

// Bye ends the conversation. Whoever gets it unasked answers with its own.
type Bye struct {
	Seq  uint64 `cbor:"1,keyasint"`           // of the last event in the sender's journal
	Head []byte `cbor:"2,keyasint,omitempty"` // its SHA-256
}

// Abort ends the handoff.
type Abort struct {
	Code   Code   `cbor:"1,keyasint"` // what kind of end
	Reason string `cbor:"2,keyasint"` // one line for people
}

// A Code says what kind of end an Abort is.
type Code uint8

const (
	Failed  Code = 1 // something went wrong, or took too long
	Refused Code = 2 // the other side will not do as it is
	Checked Code = 3 // the answer to a Welcome with Check: it would have worked
)

// Beat is asked by the predecessor and answered, with the same number, once every event loop of the successor has gone round.
type Beat struct {
	N int `cbor:"1,keyasint"` // 1, 2, 3 …
}

func (*Hello) Type() Type   { return THello }
func (*Welcome) Type() Type { return TWelcome }
func (*Lend) Type() Type    { return TLend }
func (*Offer) Type() Type   { return TOffer }
func (*Take) Type() Type    { return TTake }
func (*Give) Type() Type    { return TGive }
func (*Closed) Type() Type  { return TClosed }
func (*Done) Type() Type    { return TDone }
func (*Bye) Type() Type     { return TBye }
func (*Abort) Type() Type   { return TAbort }
func (*Beat) Type() Type    { return TBeat }

// blank makes an empty message of a type, nil for an unknown one.
func blank(t Type) Message {
	switch t {
	case THello:
		return &Hello{}
	case TWelcome:
		return &Welcome{}
	case TLend:
		return &Lend{}
	case TOffer:
		return &Offer{}
	case TTake:
		return &Take{}
	case TGive:
		return &Give{}
	case TClosed:
		return &Closed{}
	case TDone:
		return &Done{}
	case TBye:
		return &Bye{}
	case TAbort:
		return &Abort{}
	case TBeat:
		return &Beat{}
	}
	return nil
}
