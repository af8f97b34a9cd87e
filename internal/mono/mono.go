// Package mono reads CLOCK_MONOTONIC, the clock that all processes of one boot share and that nobody can set. A time taken in the
// predecessor can be subtracted from one taken in the successor.
package mono

import (
	"time"

	_ "baton/internal/linux"

	"golang.org/x/sys/unix"
)

// Go's own monotonic reading is CLOCK_MONOTONIC without a public origin. One pair of readings gives the origin, after which Now costs
// no system call.
var start, origin = func() (time.Time, int64) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("mono: CLOCK_MONOTONIC cannot be read: " + err.Error())
	}
	return time.Now(), ts.Nano()
}()

// Now returns CLOCK_MONOTONIC in nanoseconds.
func Now() int64 { return origin + int64(time.Since(start)) }

// At returns CLOCK_MONOTONIC, in nanoseconds, at a time that time.Now has given.
func At(t time.Time) int64 { return origin + int64(t.Sub(start)) }
