package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

const (
	magic      = "BATN"
	headerSize = 12

	flagMemfd = 1 << 0 // the payload is in the frame's last descriptor

	// MaxInline is the longest payload, in bytes, that travels in the frame itself.
	MaxInline = 64 << 10
	// MaxPayload is the longest payload at all. A receiver allocates no more than this for a message.
	MaxPayload = 64 << 20
	// MaxFDs is how many descriptors a message can carry beside its payload: one less than the kernel's SCM_MAX_FD.
	MaxFDs = 252
)

var (
	// ErrFrame says that a frame is not one, or is damaged.
	ErrFrame = errors.New("wire: bad frame")
	// ErrVersion says that a frame is of another version of the conversation.
	ErrVersion = errors.New("wire: other version")
	// ErrTooLarge says that a message would not fit, or claims not to.
	ErrTooLarge = errors.New("wire: message too large")
)

type header struct {
	version uint8
	typ     Type
	flags   uint16
	length  uint32 // of the payload, wherever it is; bytes
}

func (h header) append(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, h.version, byte(h.typ))
	b = binary.BigEndian.AppendUint16(b, h.flags)
	return binary.BigEndian.AppendUint32(b, h.length)
}

func parseHeader(b []byte) (h header, err error) {
	if len(b) < headerSize || string(b[:4]) != magic {
		return h, fmt.Errorf("%w: no header", ErrFrame)
	}
	h = header{b[4], Type(b[5]), binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint32(b[8:])}
	switch {
	case blank(h.typ) == nil:
		return h, fmt.Errorf("%w: unknown %v", ErrFrame, h.typ)
	case h.flags&^flagMemfd != 0:
		return h, fmt.Errorf("%w: unknown flags %#x", ErrFrame, h.flags)
	case h.length > MaxPayload:
		return h, fmt.Errorf("%w: %v of %d bytes", ErrTooLarge, h.typ, h.length)
	case h.flags&flagMemfd == 0 && int(h.length) != len(b)-headerSize:
		return h, fmt.Errorf("%w: %v says %d bytes, has %d", ErrFrame, h.typ, h.length, len(b)-headerSize)
	case h.flags&flagMemfd != 0 && len(b) != headerSize:
		return h, fmt.Errorf("%w: %v with a payload inside and outside", ErrFrame, h.typ)
	}
	return h, nil
}

// timeless reports whether messages of this type are the same in every version.
func timeless(t Type) bool { return t == THello || t == TWelcome || t == TAbort }

var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		MaxArrayElements: 1 << 16, MaxMapPairs: 1 << 10, MaxNestedLevels: 8, DupMapKey: cbor.DupMapKeyEnforcedAPF,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// decode makes a message of a payload and checks it against itself.
func decode(t Type, payload []byte) (Message, error) {
	m := blank(t)
	if err := decoding.Unmarshal(payload, m); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrFrame, t, err)
	}
	if err := check(m); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrFrame, t, err)
	}
	return m, nil
}

func check(m Message) error {
	switch m := m.(type) {
	case *Lend:
		if len(m.IDs) != len(m.Cookies) || len(m.IDs) > MaxFDs {
			return fmt.Errorf("%d ids, %d cookies", len(m.IDs), len(m.Cookies))
		}
	case *Offer:
		if len(m.IDs) != len(m.States) {
			return fmt.Errorf("%d ids, %d states", len(m.IDs), len(m.States))
		}
	case *Welcome:
		if len(m.Listeners) >= MaxFDs {
			return fmt.Errorf("%d listeners", len(m.Listeners))
		}
	}
	return nil
}

// fds is the number of descriptors that belong to a message, beside its payload.
func fds(m Message) int {
	switch m := m.(type) {
	case *Welcome:
		return len(m.Listeners) + 1
	case *Lend:
		return len(m.IDs)
	}
	return 0
}
