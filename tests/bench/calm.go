package main

import (
	"context"
	"time"
)

const (
	lookTime = 100 * time.Millisecond // how long the machine is watched before each turn
	calmness = 0.1                    // the share of the processors that others may use without being waited for
)

// calm waits, as long as -quiet allows, until others leave the machine alone, and notes how far they do. Everything of ours is at rest then.
func (b *bench) calm(ctx context.Context) error {
	end := time.Now().Add(b.quiet)
	for {
		share := busy(ctx, lookTime)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if share <= calmness || time.Now().After(end) {
			b.others = append(b.others, share)
			return nil
		}
	}
}
