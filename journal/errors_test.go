package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"
)

// The remedy is told, the path is not told twice, and the cause can still be asked for.
func TestExplain(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		unix.ENOSPC: "no space left on device; make room there",
		unix.EDQUOT: "disk quota exceeded; make room there",
		unix.EROFS:  "read-only file system; it has to be mounted for writing",
		unix.EIO:    "input/output error",
	} {
		wrapped := fmt.Errorf("update: %w", &fs.PathError{Op: "write", Path: "/ws/journal/000007.db", Err: errno})
		for _, err := range []error{errno, wrapped} {
			if got := explain(err); got.Error() != want || !errors.Is(got, errno) {
				t.Errorf("%v: %q, want %q", err, got, want)
			}
		}
	}
}
