package wire

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// seals keep a memfd from ever changing. F_ADD_SEALS fails as long as somebody has it mapped for writing.
const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK

// seal puts a payload into a memfd that nobody can change any more. The caller closes it.
func seal(payload []byte) (fd int, err error) {
	fd, err = unix.MemfdCreate("baton", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	if err := fill(fd, payload); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("wire: payload of %d bytes: %w", len(payload), err)
	}
	return fd, nil
}

func fill(fd int, payload []byte) error {
	for rest := payload; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		rest = rest[n:]
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return os.NewSyscallError("fcntl F_ADD_SEALS", err)
}

// readSealed reads a payload whose size is known. It trusts neither the size nor that the sender lets it be: only a memfd has seals, one
// that is sealed cannot change, and no more is allocated than is there. The descriptor stays the caller's.
func readSealed(fd, size int) ([]byte, error) {
	if got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil || got&seals != seals {
		return nil, errors.New("payload is not a sealed memfd")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Size != int64(size) {
		return nil, fmt.Errorf("payload has %d bytes, not %d", st.Size, size)
	}
	payload := make([]byte, size)
	for at := 0; at < size; {
		n, err := unix.Pread(fd, payload[at:], int64(at))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, os.NewSyscallError("pread", err)
		case n == 0:
			return nil, fmt.Errorf("payload ends after %d bytes", at)
		default:
			at += n
		}
	}
	return payload, nil
}
