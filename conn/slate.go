package conn

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Slate is memory that predecessor and successor share during a handoff: a slot for each session that was lent. Whoever serves the
// session writes there, after each turn, how far it is; so the survivor of a crash knows, whichever of the two it was and without a word
// from the other. What is in a slot counts only if the kernel's own count says the same (see Witness).
//
// The memory is a memfd, so it outlives the process that wrote it. Pages that are never written cost nothing.
type Slate struct {
	fd   int
	mem  []byte
	next atomic.Int32 // slots handed out, by whoever has made it; to the other process, all of them seem to be
}

// slateSlot is one session's. It is written by one process at a time: the one that serves the session.
type slateSlot struct {
	seq                       atomic.Uint32 // odd: a turn is on, or was when the writer died; nothing of the rest can be relied on
	version                   int32         // of saved
	id                        uint64
	read, written             uint64
	opened                    int64 // unix ns
	lenProto, lenIn, lenSaved uint8 // of data, in this order
	flags                     Flags
	unsent                    uint32 // bytes of output that are in no slot: only a state that holds them can be proof; saturates
	data                      [slateData]byte
}

const (
	slateSize = 256
	slateData = slateSize - 48
)

// slateFlag says that the session's input or saved state did not fit.
const slateTooLarge Flags = 1 << 7

var _ [0]struct{} = [unsafe.Sizeof(slateSlot{}) - slateSize]struct{}{}

// NewSlate makes a slate. The caller closes it.
func NewSlate(slots int) (*Slate, error) {
	fd, err := unix.MemfdCreate("baton-slate", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	if err := unix.Ftruncate(fd, int64(slots)*slateSize); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("ftruncate", err)
	}
	// Whoever has it mapped is killed by SIGBUS if somebody makes it shorter.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	s, err := OpenSlate(fd)
	if err == nil {
		s.next.Store(0)
	}
	return s, err
}

// errSlate says that what came is not a slate.
var errSlate = errors.New("conn: not a slate")

// OpenSlate maps the slate that another process has made. It takes ownership of fd, also when it fails.
func OpenSlate(fd int) (*Slate, error) {
	s := &Slate{fd: fd}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 || st.Size == 0 || st.Size%slateSize != 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("%w: %d bytes, seals %#x, %v", errSlate, st.Size, seals, err)
	}
	if s.mem, err = unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("mmap", err)
	}
	s.next.Store(int32(len(s.mem) / slateSize))
	return s, nil
}

// FD is the slate's memfd. It stays the slate's.
func (s *Slate) FD() int { return s.fd }

// Close unmaps the slate. No session may be writing to it any more.
func (s *Slate) Close() error {
	err := unix.Munmap(s.mem)
	s.mem = nil
	return errors.Join(err, unix.Close(s.fd))
}

// take hands out the next slot; -1 if all are taken.
func (s *Slate) take() int32 {
	if n := s.next.Add(1); int(n) <= len(s.mem)/slateSize {
		return n - 1
	}
	return -1
}

// slot returns a slot; nil if there is none of this number.
func (s *Slate) slot(n int32) *slateSlot {
	if n < 0 || int(n) >= len(s.mem)/slateSize {
		return nil
	}
	return (*slateSlot)(unsafe.Pointer(&s.mem[int(n)*slateSize]))
}

// begin says that a turn is on. Writes to a slot want output.mu held, except this one.
func (s *slateSlot) begin() {
	if n := s.seq.Load(); n&1 == 0 {
		s.seq.Store(n + 1)
	}
}

// torn reports whether begin was called, and end was not.
func (s *slateSlot) torn() bool { return s.seq.Load()&1 != 0 }

// end says that what was put into the slot since begin holds.
func (s *slateSlot) end() { s.seq.Store(s.seq.Load()&^1 + 2) }

// A mark is what a slot says.
type mark struct {
	proto         string
	version       int
	read, written uint64
	opened        int64
	flags         Flags
	unsent        uint32
	in, saved     []byte
}

// errTorn says that a slot's writer died in the middle of a turn.
var errTorn = errors.New("it died in the middle of a turn")

// look returns what a slot says of a session, whose writer has certainly ended. The error says why it says nothing, or nothing but how much
// output waited.
func (s *slateSlot) look(id ID) (m mark, err error) {
	switch {
	case s.torn():
		return m, errTorn
	case ID(s.id) != id || s.seq.Load() == 0:
		return m, errors.New("nothing was written of it")
	case s.flags&slateTooLarge != 0:
		return mark{unsent: s.unsent}, errors.New("its state is too large for the slate")
	}
	a, b, c := int(s.lenProto), int(s.lenIn), int(s.lenSaved)
	if a+b+c > slateData {
		return m, errSlate
	}
	data := append([]byte(nil), s.data[:a+b+c]...)
	return mark{
		proto: string(data[:a]), in: data[a : a+b : a+b], saved: data[a+b:], version: int(s.version),
		read: s.read, written: s.written, opened: s.opened, flags: s.flags, unsent: s.unsent,
	}, nil
}

// put writes all of a mark but its output half.
func (s *slateSlot) put(id ID, m mark) {
	s.id, s.version, s.read, s.opened, s.flags = uint64(id), int32(m.version), m.read, m.opened, m.flags
	if len(m.proto)+len(m.in)+len(m.saved) > slateData || len(m.in) > 255 || len(m.saved) > 255 || len(m.proto) > 255 {
		s.flags |= slateTooLarge
		return
	}
	s.lenProto, s.lenIn, s.lenSaved = uint8(len(m.proto)), uint8(len(m.in)), uint8(len(m.saved))
	n := copy(s.data[:], m.proto)
	n += copy(s.data[n:], m.in)
	copy(s.data[n:], m.saved)
}

// putOutput writes the output half.
func (s *slateSlot) putOutput(written uint64, unsent int) {
	s.written, s.unsent = written, uint32(min(unsent, 1<<31))
}
