package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"baton/handoff"
	"baton/internal/human"
	"baton/internal/load"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// terminal reports whether somebody looks at w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// An upgradeBar shows how far an upgrade is. On anything but a terminal it shows nothing.
type upgradeBar struct {
	progress *mpb.Progress
	bar      *mpb.Bar
	state    atomic.Value
}

func newUpgradeBar(w io.Writer) *upgradeBar {
	b := &upgradeBar{}
	if !terminal(w) {
		return b
	}
	b.state.Store("asking")
	b.progress = mpb.New(mpb.WithOutput(w), mpb.WithWidth(60))
	b.bar = b.progress.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return b.state.Load().(string) }, decor.WCSyncSpace)),
		mpb.AppendDecorators(decor.CountersNoUnit("%d of %d sessions")))
	return b
}

func (b *upgradeBar) show(p handoff.Progress) {
	if b.bar == nil {
		return
	}
	b.state.Store(p.State)
	b.bar.SetTotal(int64(p.Of), false)
	b.bar.SetCurrent(int64(p.Moved))
}

func (b *upgradeBar) done() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.progress.Wait()
	}
}

// A demoBar shows how far the demonstration is, and what the clients feel: as a bar on a terminal, elsewhere as a line for each step.
type demoBar struct {
	w     io.Writer
	crowd *load.Load
	step  atomic.Value

	progress *mpb.Progress
	bar      *mpb.Bar
}

func newDemoBar(w io.Writer, crowd *load.Load) *demoBar {
	b := &demoBar{w: w, crowd: crowd}
	if !terminal(w) {
		return b
	}
	b.step.Store("")
	b.progress = mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))
	b.bar = b.progress.AddBar(int64((demoUpgrades+1)*demoBreath/time.Millisecond), mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.step.Load().(string) + ": " + b.felt() })))
	return b
}

// felt is what the clients say.
func (b *demoBar) felt() string {
	s := b.crowd.Live()
	return fmt.Sprintf("%s frames, %d dropped, %d wrong bytes", human.Count(s.Frames), s.Drops, s.Wrong)
}

// breathe lets the crowd play for a while.
func (b *demoBar) breathe(ctx context.Context, step string) error {
	b.step.Store(step)
	if b.bar == nil {
		defer func() { fmt.Fprintf(b.w, "%s: %s\n", step, b.felt()) }()
	}
	const tick = 50 * time.Millisecond
	for range demoBreath / tick {
		select {
		case <-time.After(tick):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if b.bar != nil {
			b.bar.IncrBy(int(tick / time.Millisecond))
		}
	}
	return nil
}

func (b *demoBar) done() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.progress.Wait()
	}
}
