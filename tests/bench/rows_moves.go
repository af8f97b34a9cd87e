package main

import (
	"context"
	"fmt"
	"slices"

	"baton/tests/bench/internal/figure"
)

// main is what was measured at the size that most rows are about.
func (b *bench) main(ctx context.Context) (*moves, error) {
	err := b.measureMoves(ctx)
	m := b.moves[b.size]
	if err == nil && (m == nil || len(m.baton) == 0) {
		err = fmt.Errorf("nothing was moved")
	}
	return m, err
}

// pauses, in µs.
func (m *moves) pauses(get func(figure.Dist) int64) []float64 {
	return pick(m.baton, func(v batonMove) float64 { return us(float64(get(v.pause()))) })
}

func p50(d figure.Dist) int64  { return d.P50 }
func p99(d figure.Dist) int64  { return d.P99 }
func p999(d figure.Dist) int64 { return d.P999 }
func most(d figure.Dist) int64 { return d.Max }

func rowPause(ctx context.Context, b *bench, r *row) error {
	m, err := b.main(ctx)
	if err != nil {
		return err
	}
	r.atMost(fmt.Sprintf("p50 with %d connections", m.n), "µs", 50, figure.SpreadOf(m.pauses(p50)))
	r.atMost("p99", "µs", 1500, figure.SpreadOf(m.pauses(p99)))
	r.atMost("max, the worst of all", "µs", 10000, worst(m.pauses(most)))
	r.tell("p99.9", "µs", figure.SpreadOf(m.pauses(p999)))
	r.tell("stragglers, in no pause", "sessions", figure.SpreadOf(pick(m.baton, func(v batonMove) float64 { return float64(v.handoff.Stragglers) })))
	return nil
}

func rowFloor(ctx context.Context, b *bench, r *row) error {
	m, err := b.main(ctx)
	if err != nil {
		return err
	}
	took := pick(m.baton, batonMove.perConn)
	r.atMost(fmt.Sprintf("time per connection, of %d, over the floor's", m.n), "×", 1.5, figure.Ratios(took, m.floor))
	r.tell("baton", "µs", figure.SpreadOf(pick(took, us)))
	r.tell("floor", "µs", figure.SpreadOf(pick(m.floor, us)))
	r.tell("baton, processor time of both, with the successor's start", "µs", figure.SpreadOf(pick(m.baton, func(v batonMove) float64 {
		return v.cpu * 1e6 / float64(v.handoff.Moved)
	})))
	r.tell("floor, processor time of both", "µs", figure.SpreadOf(pick(m.floorCPU, us)))
	return nil
}

func rowSizes(ctx context.Context, b *bench, r *row) error {
	if err := b.measureMoves(ctx); err != nil {
		return err
	}
	small, large := b.moves[slices.Min(b.sizes)], b.moves[slices.Max(b.sizes)]
	per := func(m *moves) []float64 { return pick(m.baton, batonMove.perConn) }
	name := fmt.Sprintf("at %d over at %d", large.n, small.n)
	r.atMost("time per connection "+name, "×", 1.2, figure.Ratios(per(large), per(small)))
	r.atMost("p50 of the pause "+name, "×", 1.2, figure.Ratios(large.pauses(p50), small.pauses(p50)))
	r.atMost("p99 of the pause "+name, "×", 1.2, figure.Ratios(large.pauses(p99), small.pauses(p99)))
	r.tell("floor's time per connection "+name, "×", figure.Ratios(large.floor, small.floor))
	for _, n := range b.sizes {
		m := b.moves[n]
		r.tell(fmt.Sprintf("%d connections", n), "µs each", figure.SpreadOf(pick(per(m), us)))
		r.tell(fmt.Sprintf("%d connections, floor", n), "µs each", figure.SpreadOf(pick(m.floor, us)))
		r.tellDist(fmt.Sprintf("pause with %d", n), figure.Middle(pickDists(m.baton, batonMove.pause)))
	}
	return nil
}

func pickDists[T any](of []T, get func(T) figure.Dist) (all []figure.Dist) {
	for _, v := range of {
		all = append(all, get(v))
	}
	return all
}

func rowLatency(ctx context.Context, b *bench, r *row) error {
	m, err := b.main(ctx)
	if err != nil {
		return err
	}
	get := func(from func(batonMove) figure.Dist, what func(figure.Dist) int64) []float64 {
		return pick(m.baton, func(v batonMove) float64 { return us(float64(what(from(v)))) })
	}
	steady := func(v batonMove) figure.Dist { return v.steady }
	around := func(v batonMove) figure.Dist { return v.around }
	more := pick(m.baton, func(v batonMove) float64 { return float64(v.around.Max-v.steady.Max) / 1e6 })
	r.atMost("p99.9 around over p99.9 before", "×", 1.5, figure.Ratios(get(around, p999), get(steady, p999)))
	r.atMost("slowest frame around, over the slowest before; the worst of all", "ms more", 20, worst(more))
	r.tell("p99 around over p99 before", "×", figure.Ratios(get(around, p99), get(steady, p99)))
	r.tell("p50 around over p50 before", "×", figure.Ratios(get(around, p50), get(steady, p50)))
	r.tellDist("before", figure.Middle(pickDists(m.baton, steady)))
	r.tellDist("around", figure.Middle(pickDists(m.baton, around)))
	r.tellDist("the clients' own lateness, in neither", figure.Middle(pickDists(m.baton, func(v batonMove) figure.Dist { return v.own })))
	return nil
}

func rowRivals(ctx context.Context, b *bench, r *row) error {
	m, err := b.main(ctx)
	if err != nil {
		return err
	}
	took := pick(m.baton, batonMove.perConn)
	per := func(of []rivalMove) []float64 { return pick(of, func(v rivalMove) float64 { return v.perConn }) }
	pause := func(v rivalMove) figure.Dist { return v.pause }
	r.atLeast("a message per socket takes", "× as long", 8, figure.Ratios(per(m.one), took))
	r.atLeast("a dial and an answer per socket take", "× as long", 10, figure.Ratios(per(m.dial), took))
	r.tell("baton", "µs", figure.SpreadOf(pick(took, us)))
	r.tell("a message per socket", "µs", figure.SpreadOf(pick(per(m.one), us)))
	r.tell("a dial per socket", "µs", figure.SpreadOf(pick(per(m.dial), us)))
	r.tellDist("pause, baton", figure.Middle(pickDists(m.baton, batonMove.pause)))
	r.tellDist("pause, a message per socket", figure.Middle(pickDists(m.one, pause)))
	r.tellDist("pause, a dial per socket", figure.Middle(pickDists(m.dial, pause)))
	return nil
}

func rowPeak(ctx context.Context, b *bench, r *row) error {
	m, err := b.main(ctx)
	if err != nil {
		return err
	}
	get := func(what func(peaks) uint64) []float64 {
		return pick(m.baton, func(v batonMove) float64 { return float64(what(v.memory)) })
	}
	before := get(func(p peaks) uint64 { return p.before })
	both := get(func(p peaks) uint64 { return p.predecessor + p.successor })
	mib := func(v float64) float64 { return v / (1 << 20) }
	r.atMost(fmt.Sprintf("peaks of both, with %d connections, over one before", m.n), "×", 2.2, figure.Ratios(both, before))
	r.tell("one before", "MiB", figure.SpreadOf(pick(before, mib)))
	r.tell("predecessor's peak", "MiB", figure.SpreadOf(pick(get(func(p peaks) uint64 { return p.predecessor }), mib)))
	r.tell("successor's peak", "MiB", figure.SpreadOf(pick(get(func(p peaks) uint64 { return p.successor }), mib)))
	return nil
}
