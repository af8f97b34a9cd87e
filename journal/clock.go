package journal

import (
	"time"

	"baton/internal/mono"
)

// clock reads both clocks at one moment; monotonic is in ns.
func clock() (wall time.Time, monotonic int64) {
	now := time.Now()
	return now.Round(0), mono.At(now)
}
