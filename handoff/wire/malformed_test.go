package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rawPacket is what a peer sends that does not use this package.
type rawPacket struct {
	frame []byte
	fds   func(t *testing.T) []int // nil = none
}

func memfd(content []byte, size int, sealed bool) func(t *testing.T) []int {
	return func(t *testing.T) []int {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if _, err := unix.Write(fd, content); err != nil {
			t.Fatal(err)
		}
		if err := unix.Ftruncate(fd, int64(size)); err != nil {
			t.Fatal(err)
		}
		if sealed {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
				t.Fatal(err)
			}
		}
		return []int{fd}
	}
}

func plainFile(t *testing.T) []int {
	fd, err := unix.Open(t.TempDir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	unix.Ftruncate(fd, 100)
	return []int{fd}
}

func some(n int) func(t *testing.T) []int { return func(t *testing.T) []int { return nullFDs(t, n) } }

func TestMalformed(t *testing.T) {
	lendFrame := frameOf(t, lend(1, 1, 3))
	bye := frameOf(t, &Bye{Seq: 1})
	with := func(frame []byte, at int, b byte) []byte {
		frame = bytes.Clone(frame)
		frame[at] = b
		return frame
	}
	raw := func(h header, payload ...byte) []byte { return append(h.append(nil), payload...) }
	byePayload := bye[headerSize:]
	outside := func(length int) []byte {
		return raw(header{version: Version, typ: TBye, flags: flagMemfd, length: uint32(length)})
	}
	payload := func(typ Type, v any) []byte {
		b, err := encoding.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw(header{version: Version, typ: typ, length: uint32(len(b))}, b...)
	}
	for _, test := range []struct {
		name string
		rawPacket
		want error
		text string
	}{
		{"garbage", rawPacket{[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), nil}, ErrFrame, "no header"},
		{"garbage with descriptors", rawPacket{[]byte("hello"), some(5)}, ErrFrame, "no header"},
		{"header cut", rawPacket{bye[:headerSize-1], nil}, ErrFrame, "no header"},
		{"payload cut", rawPacket{lendFrame[:len(lendFrame)-1], some(3)}, ErrFrame, "says"},
		{"payload too long", rawPacket{append(bytes.Clone(bye), 0), nil}, ErrFrame, "says"},
		{"frame over the limit", rawPacket{append(bytes.Clone(bye), make([]byte, MaxInline)...), nil}, ErrTooLarge, "longer than"},
		{"frame over the limit, with descriptors", rawPacket{append(bytes.Clone(lendFrame), make([]byte, MaxInline)...), some(3)}, ErrTooLarge, "longer than"},
		{"claims too much", rawPacket{raw(header{version: Version, typ: TBye, flags: flagMemfd, length: MaxPayload + 1}), nil}, ErrTooLarge, "67108865 bytes"},
		{"type 0", rawPacket{with(bye, 5, 0), nil}, ErrFrame, "unknown type 0"},
		{"type unknown", rawPacket{with(bye, 5, 200), nil}, ErrFrame, "unknown type 200"},
		{"next version", rawPacket{with(bye, 4, Version+1), nil}, ErrVersion, "BYE of version 2, agreed on 1"},
		{"next version, a type of its own", rawPacket{with(with(bye, 4, Version+1), 5, 200), nil}, ErrVersion, "version 2"},
		{"version 0", rawPacket{with(bye, 4, 0), nil}, ErrVersion, "version 0"},
		{"unknown flag", rawPacket{with(bye, 6, 0x80), nil}, ErrFrame, "unknown flags 0x8000"},
		{"not CBOR", rawPacket{raw(header{version: Version, typ: TBye, length: 1}, 0xff), nil}, ErrFrame, "BYE"},
		{"not a map", rawPacket{payload(TBye, 7), nil}, ErrFrame, "BYE"},
		{"a key twice", rawPacket{raw(header{version: Version, typ: TBeat, length: 5}, 0xa2, 1, 1, 1, 2), nil}, ErrFrame, "BEAT"},
		{"indefinite length", rawPacket{raw(header{version: Version, typ: TBeat, length: 4}, 0xbf, 1, 1, 0xff), nil}, ErrFrame, "BEAT"},
		{"bytes behind", rawPacket{raw(header{version: Version, typ: TBeat, length: 4}, 0xa1, 1, 1, 0), nil}, ErrFrame, "BEAT"},
		{"an array that is not there", rawPacket{raw(header{version: Version, typ: TClosed, length: 7}, 0xa1, 1, 0x9a, 0xff, 0xff, 0xff, 0xff), nil}, ErrFrame, "CLOSED"},
		{"too deep", rawPacket{payload(TOffer, map[int]any{3: []int{1}, 4: []any{[]any{[]any{[]any{[]any{[]any{[]any{[]any{}}}}}}}}}), nil}, ErrFrame, "OFFER"},

		{"ids without cookies", rawPacket{payload(TLend, &Lend{IDs: []ID{1, 2}, Cookies: []uint64{1}}), some(2)}, ErrFrame, "2 ids, 1 cookies, 0 slots"},
		{"too many ids", rawPacket{payload(TLend, lend(1, 1, MaxFDs+1)), some(MaxFDs + 1)}, ErrFrame, "253 ids"},
		{"ids without states", rawPacket{payload(TOffer, &Offer{IDs: []ID{1}}), nil}, ErrFrame, "1 ids, 0 states"},
		{"a session twice", rawPacket{payload(TClosed, &Closed{IDs: []ID{3, 1, 3}}), nil}, ErrFrame, "0-3 is named twice"},
		{"taken and refused", rawPacket{payload(TTake, &Take{IDs: []ID{3}, Refused: []Refusal{{ID: 3}}}), nil}, ErrFrame, "0-3 is named twice"},
		{"no session", rawPacket{payload(TGive, &Give{IDs: []ID{0}}), nil}, ErrFrame, "session 0"},
		{"a negative count", rawPacket{payload(TDone, &Done{Moved: -1}), nil}, ErrFrame, "-1"},
		{"an ABORT that is none", rawPacket{payload(TAbort, &Abort{Reason: "x"}), nil}, ErrFrame, "code 0"},

		{"descriptors missing", rawPacket{lendFrame, some(2)}, ErrFrame, "2 descriptors, want 3"},
		{"no descriptors", rawPacket{lendFrame, nil}, ErrFrame, "0 descriptors, want 3"},
		{"a descriptor too many", rawPacket{lendFrame, some(4)}, ErrFrame, "4 descriptors, want 3"},
		{"descriptors with a message that has none", rawPacket{bye, some(1)}, ErrFrame, "1 descriptors, want 0"},

		{"memfd missing", rawPacket{outside(len(byePayload)), nil}, ErrFrame, "without its payload"},
		{"memfd and a payload inside", rawPacket{with(bye, 7, flagMemfd), memfd(byePayload, len(byePayload), true)}, ErrFrame, "inside and outside"},
		{"memfd not sealed", rawPacket{outside(len(byePayload)), memfd(byePayload, len(byePayload), false)}, ErrFrame, "not a sealed memfd"},
		{"memfd is a socket or device", rawPacket{outside(100), some(1)}, ErrFrame, "not a sealed memfd"},
		{"memfd is a plain file", rawPacket{outside(100), plainFile}, ErrFrame, "not a sealed memfd"},
		{"memfd shorter than said", rawPacket{outside(len(byePayload) + 1), memfd(byePayload, len(byePayload), true)}, ErrFrame, "bytes, not"},
		{"memfd longer than said", rawPacket{outside(len(byePayload)), memfd(byePayload, len(byePayload)+1, true)}, ErrFrame, "bytes, not"},
		{"memfd full of zeros", rawPacket{outside(MaxPayload), memfd(nil, MaxPayload, true)}, ErrFrame, "BYE"},
		{"memfd and too many descriptors", rawPacket{outside(len(byePayload)), func(t *testing.T) []int {
			return append(some(2)(t), memfd(byePayload, len(byePayload), true)(t)...)
		}}, ErrFrame, "2 descriptors, want 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := pair(t, time.Second)
			var rights []int
			if test.fds != nil {
				rights = test.fds(t)
			}
			err := a.try(packet{frame: test.frame, oob: rightsOf(rights), memfd: -1})
			if err != nil {
				t.Fatal(err)
			}
			before := len(openFiles())
			m, got, err := b.Receive()
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %q, want %q with %q", err, test.want, test.text)
			}
			if m != nil || got != nil {
				t.Errorf("and %v with descriptors %v", m, got)
			}
			if after := len(openFiles()); after != before {
				t.Errorf("%d descriptors stayed open", after-before)
			}
		})
	}
}

func rightsOf(fds []int) []byte {
	if len(fds) == 0 {
		return nil
	}
	return unix.UnixRights(fds...)
}

// TestEmptyPacket: a packet of no bytes looks like the end of the channel.
func TestEmptyPacket(t *testing.T) {
	a, b := pair(t, time.Second)
	if err := a.try(packet{memfd: -1}); err != nil {
		t.Fatal(err)
	}
	if _, fds, err := b.Receive(); err != io.EOF || fds != nil {
		t.Errorf("Receive = %v, %v, want io.EOF", fds, err)
	}
}

// TestTimelessTypes: what two versions need in order to greet each other, or to say why they part, is read whatever the version.
func TestTimelessTypes(t *testing.T) {
	for _, s := range samples {
		frame := frameOf(t, s.m)
		frame[4] = Version + 1
		_, err := parseFrame(frame)
		switch s.m.(type) {
		case *Hello, *Welcome, *Abort:
			if err != nil {
				t.Errorf("%s of the next version: %v", s.name, err)
			}
		default:
			if !errors.Is(err, ErrVersion) {
				t.Errorf("%s of the next version: %v, want ErrVersion", s.name, err)
			}
		}
	}
}

// TestUnknownKeys: a later build of the same version may say more.
func TestUnknownKeys(t *testing.T) {
	payload, _ := encoding.Marshal(map[int]any{1: 3, 99: "news", 100: []int{1}})
	m, err := decode(TBeat, payload)
	if beat, ok := m.(*Beat); !ok || beat.N != 3 {
		t.Errorf("decode = %v, %v", m, err)
	}
}

// TestTextThatIsNotUTF8: reasons come from files and other programs.
func TestTextThatIsNotUTF8(t *testing.T) {
	a, b := pair(t, time.Second)
	want := "no such file: caf\xe9"
	a.Send(&Abort{Code: Failed, Reason: want})
	if m, _, err := b.Receive(); err != nil || m.(*Abort).Reason != want {
		t.Errorf("Receive = %v, %v", m, err)
	}
}
