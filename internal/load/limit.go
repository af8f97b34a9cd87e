package load

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// spareFiles is what the process may need besides connections: epoll, standard streams, a dial's moment of two sockets.
const spareFiles = 32

// roomFor reports an error if the process may not open n more files. Go has raised the soft limit to the hard one at its start, so what
// is seen here is all there is.
func roomFor(n int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit on open files: %w", err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("count open files: %w", err)
	}
	if need := uint64(len(open) + n + spareFiles); need > limit.Cur {
		return fmt.Errorf("%d connections need %d open files and this process may have %d; ask for fewer, or raise \"ulimit -n\"", n, need, limit.Cur)
	}
	return nil
}
