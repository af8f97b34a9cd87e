// Package mono reads CLOCK_MONOTONIC, the clock that all processes of one boot share and that nobody can set. A time taken in the
// predecessor can be subtracted from one taken in the successor.
package mono

import (
	"time"

	_ "baton/internal/linux"

	"golang.org/x/sys/unix"
)

// Go's own monotonic reading is CLOCK_MONOTONIC without a public origin. A pair of readings gives the origin, after which Now costs no
// system call. Who is interrupted between the two is wrong by so long for ever after, so the closest of some pairs is taken.
var start, origin = func() (start time.Time, origin int64) {
	closest := time.Duration(1<<63 - 1)
	for range 10 {
		var ts unix.Timespec
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic("mono: CLOCK_MONOTONIC cannot be read: " + err.Error())
		}
		if apart := time.Since(before); apart < closest {
			start, origin, closest = before, ts.Nano()-int64(apart/2), apart
		}
	}
	return start, origin
}()

// Now returns CLOCK_MONOTONIC in nanoseconds.
func Now() int64 { return origin + int64(time.Since(start)) }

// At returns CLOCK_MONOTONIC, in nanoseconds, at a time that time.Now has given.
func At(t time.Time) int64 { return origin + int64(t.Sub(start)) }
