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
	// ErrRoom says that a message's descriptors could not be taken.
	ErrRoom = errors.New("wire: descriptors did not arrive, the limit is reached (RLIMIT_NOFILE)")
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

// parseHeader checks all that can be known of a frame before its payload is looked at. A frame of another version is none of ours to
// judge, so the version comes first.
func parseHeader(b []byte, version uint8) (h header, err error) {
	if len(b) < headerSize || string(b[:4]) != magic {
		return h, fmt.Errorf("%w: no header", ErrFrame)
	}
	h = header{b[4], Type(b[5]), binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint32(b[8:])}
	inside := len(b) - headerSize
	switch {
	case h.version != version && !timeless(h.typ):
		return h, fmt.Errorf("%w: %v of version %d, agreed on %d", ErrVersion, h.typ, h.version, version)
	case blank(h.typ) == nil:
		return h, fmt.Errorf("%w: unknown %v", ErrFrame, h.typ)
	case h.flags&^flagMemfd != 0:
		return h, fmt.Errorf("%w: %v with unknown flags %#x", ErrFrame, h.typ, h.flags)
	case h.length > MaxPayload:
		return h, fmt.Errorf("%w: %v of %d bytes", ErrTooLarge, h.typ, h.length)
	case h.flags&flagMemfd == 0 && int(h.length) != inside:
		return h, fmt.Errorf("%w: %v says %d bytes, has %d", ErrFrame, h.typ, h.length, inside)
	case h.flags&flagMemfd != 0 && inside != 0:
		return h, fmt.Errorf("%w: %v with a payload inside and outside", ErrFrame, h.typ)
	}
	return h, nil
}

// timeless reports whether messages of this type are the same in every version.
func timeless(t Type) bool { return t == THello || t == TWelcome || t == TAbort }

var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	// decoding is strict, but for text: reasons come from the system and from other programs, and one that is not UTF-8 must not cost a
	// handoff. A reader passes over keys that it does not know.
	decoding = must(cbor.DecOptions{
		MaxArrayElements: 1 << 16, MaxMapPairs: 1 << 10, MaxNestedLevels: 8, DupMapKey: cbor.DupMapKeyEnforcedAPF,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// encode makes the payload of a message.
func encode(m Message) ([]byte, error) {
	payload, err := encoding.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("wire: encoding %v: %w", m.Type(), err)
	}
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("%w: %v of %d bytes", ErrTooLarge, m.Type(), len(payload))
	}
	return payload, nil
}

// decode makes a message of a payload and checks it against itself. The message holds nothing of the payload.
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
