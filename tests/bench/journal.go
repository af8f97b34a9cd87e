package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"baton/tests/bench/internal/figure"
)

// journalSize is the bytes of a workspace's journals at two moments.
type journalSize struct{ empty, full int64 }

// replays is how often a replay is timed.
const replays = 3

// timeReplay replays what a workspace's journals hold, the servers having ended, and returns the seconds that each took.
func (b *bench) timeReplay(dir string) (took []float64, err error) {
	for range replays {
		began := time.Now()
		if out, err := exec.Command(b.server, "-w", dir, "-replay").CombinedOutput(); err != nil {
			return took, fmt.Errorf("replay: %w: %.500s", err, out)
		}
		took = append(took, time.Since(began).Seconds())
	}
	return took, nil
}

func rowJournal(ctx context.Context, b *bench, r *row) error {
	m, err := b.main(ctx)
	if err != nil {
		return err
	}
	n := float64(m.n)
	grown := pick(m.baton, func(v batonMove) float64 { return float64(v.journal) })
	handoffs := float64(len(m.baton))
	r.atMost(fmt.Sprintf("time to replay, for each handoff of %d connections", m.n), "s", 1,
		figure.SpreadOf(pick(m.replayed, func(v float64) float64 { return v / handoffs })))
	r.tell(fmt.Sprintf("time to replay all %d handoffs", len(m.baton)), "s", figure.SpreadOf(m.replayed))
	r.tell("bytes per session, at rest", "B", one(float64(m.journal.full-m.journal.empty)/n))
	r.tell("bytes per handoff, both sides", "KiB", figure.SpreadOf(pick(grown, func(v float64) float64 { return v / 1024 })))
	r.tell("bytes per handoff and session", "B", figure.SpreadOf(pick(grown, func(v float64) float64 { return v / n })))
	return nil
}
