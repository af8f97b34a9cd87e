package journal

import (
	"time"

	"golang.org/x/sys/unix"
)

// Go's monotonic reading is CLOCK_MONOTONIC with an origin that it keeps to itself. Reading both once gives the origin; after that a time
// costs no system call, and can be compared with those of any process of this boot.
var monoStart, monoOrigin = func() (time.Time, int64) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("journal: CLOCK_MONOTONIC cannot be read: " + err.Error())
	}
	return time.Now(), ts.Nano()
}()

// clock reads both clocks at one moment; mono is in ns.
func clock() (wall time.Time, mono int64) {
	now := time.Now()
	return now.Round(0), monoOrigin + int64(now.Sub(monoStart))
}
