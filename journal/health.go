package journal

import (
	"fmt"
	"log/slog"
	"time"
)

// health is whether the file can be written. The Journal's lock guards it.
type health struct {
	write error     // why the last batch is not in the file
	sync  error     // why the last fsync failed
	since time.Time // a write is under way; zero = none
}

func (h *health) begin() { h.since = time.Now() }
func (h *health) idle()  { h.since = time.Time{} }

// end notes how a write ended, and says so where that is news.
func (h *health) end(err error, log *slog.Logger) {
	if err != nil && h.write == nil {
		log.Error("journal: cannot be written", "err", err)
	}
	if err == nil && h.write != nil {
		log.Info("journal: can be written again")
	}
	h.idle()
	h.write = err
}

// Err returns nil while the file can be written, and otherwise why it cannot be at the moment; it is ErrHung while the disk does not
// answer, and ErrClosed after Close. It never waits.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	h := j.health
	switch {
	case j.closed:
		return ErrClosed
	case h.write != nil:
		return h.write
	case !h.since.IsZero() && time.Since(h.since) > j.opt.Hung:
		return fmt.Errorf("%w for %v: %s", ErrHung, time.Since(h.since).Round(time.Millisecond), j.path)
	}
	return h.sync
}
