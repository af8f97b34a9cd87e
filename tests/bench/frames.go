package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"baton/tests/bench/internal/figure"
	"baton/tests/bench/internal/rival"
)

// framesAt is what was measured with n connections.
type framesAt struct {
	n            int
	baton, plain []loopRun
}

// A loopRun is one stretch of a closed loop.
type loopRun struct {
	rate    float64 // frames per second
	cpu     float64 // µs of the server's processor time for each
	latency figure.Dist
}

func (b *bench) frameSizes() []int {
	if b.quick {
		return []int{100, 1000}
	}
	return []int{100, 2000, 15000}
}

func rowFrames(ctx context.Context, b *bench, r *row) error {
	for _, n := range b.frameSizes() {
		at, err := b.framesWith(ctx, n)
		if err != nil {
			return fmt.Errorf("%d connections: %w", n, err)
		}
		b.frames = append(b.frames, at)
		rate := func(v loopRun) float64 { return v.rate }
		cpu := func(v loopRun) float64 { return v.cpu }
		slow := func(v loopRun) float64 { return float64(v.latency.P99) }
		r.atLeast(fmt.Sprintf("%d connections, frames", n), "×", 1.1, figure.Ratios(pick(at.baton, rate), pick(at.plain, rate)))
		r.atMost(fmt.Sprintf("%d connections, p99", n), "×", 1, figure.Ratios(pick(at.baton, slow), pick(at.plain, slow)))
		for _, side := range []struct {
			name string
			runs []loopRun
		}{{"baton", at.baton}, {"plain", at.plain}} {
			name := fmt.Sprintf("%d connections, %s", n, side.name)
			r.tell(name, "frames/s", figure.SpreadOf(pick(side.runs, rate)))
			r.tell(name+", server's processor time", "µs each", figure.SpreadOf(pick(side.runs, cpu)))
			r.tellDist(name, figure.Middle(pickDists(side.runs, func(v loopRun) figure.Dist { return v.latency })))
		}
	}
	return nil
}

// framesWith has n clients ask one server and the other, by turns.
func (b *bench) framesWith(ctx context.Context, n int) (at framesAt, err error) {
	at.n = n
	s, err := b.startServer(ctx)
	if err != nil {
		return at, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	ours, err := crowdOf(s.addr, n)
	if err != nil {
		return at, err
	}
	defer ours.Close()
	host, addr, err := startHost(rival.KindPlain)
	if err != nil {
		return at, err
	}
	defer host.Close()
	theirs, err := crowdOf(addr, n)
	if err != nil {
		return at, err
	}
	defer theirs.Close()
	for turn := range b.repeat {
		b.say("turn %d of %d: frames of %d connections", turn+1, b.repeat, n)
		sides := []func() error{
			func() error { return b.loopOnce(ctx, ours, s.first.Process.Pid, &at.baton) },
			func() error { return b.loopOnce(ctx, theirs, host.PID(), &at.plain) },
		}
		for i := range sides {
			if err := sides[(i+turn)%len(sides)](); err != nil {
				return at, err
			}
		}
	}
	return at, nil
}

// loopOnce measures one stretch, after one that does not count.
func (b *bench) loopOnce(ctx context.Context, c *clients, pid int, into *[]loopRun) error {
	if err := errors.Join(b.calm(ctx), c.Ask("loop", nil, nil), sleep(ctx, b.short(500*time.Millisecond, 200*time.Millisecond))); err != nil {
		return err
	}
	if _, err := c.take(); err != nil {
		return err
	}
	began := time.Now()
	before, err := cpuOf(pid)
	if err != nil {
		return err
	}
	if err := sleep(ctx, b.short(2*time.Second, 500*time.Millisecond)); err != nil {
		return err
	}
	r, err := c.take()
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	after, err := cpuOf(pid)
	if err != nil {
		return err
	}
	frames := float64(r.Frames)
	*into = append(*into, loopRun{frames / took, (after - before) * 1e6 / frames, figure.DistOf(r.Latency)})
	_, err = c.rest()
	return err
}
