package main

import (
	"fmt"
	"slices"

	"baton/tests/bench/internal/chart"
	"baton/tests/bench/internal/crowd"
	"baton/tests/bench/internal/figure"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// plots draws what was measured, as far as it was.
func (b *bench) plots() (all []chart.Chart) {
	for _, draw := range []func() (chart.Chart, bool){b.plotPauses, b.plotLatency, b.plotCost, b.plotPauseSizes, b.plotFrames} {
		if c, ok := draw(); ok {
			all = append(all, c)
		}
	}
	return all
}

var percentiles = []string{"p50", "p99", "p99.9", "max"}

// line is a distribution over percentiles, in µs.
func line(name string, d figure.Dist) chart.Series {
	s := chart.Series{Name: name}
	for i, v := range []int64{d.P50, d.P99, d.P999, d.Max} {
		s.Points = append(s.Points, chart.Point{X: float64(i), Y: us(float64(v))})
	}
	return s
}

func (b *bench) plotPauses() (c chart.Chart, ok bool) {
	m := b.moves[b.size]
	if m == nil || len(m.baton) == 0 {
		return c, false
	}
	pause := func(v rivalMove) figure.Dist { return v.pause }
	c = chart.Chart{
		Name: "pause", Title: fmt.Sprintf("How long a session stands still, of %d", m.n), X: "percentile", Y: "µs", LogY: true, Categories: percentiles,
		Note:   "Medians of the repetitions; the maximum is the largest of all.",
		Series: []chart.Series{line("baton", figure.Middle(pickDists(m.baton, batonMove.pause)))},
	}
	if len(m.one) > 0 {
		c.Series = append(c.Series, line("a message per socket", figure.Middle(pickDists(m.one, pause))))
	}
	if len(m.dial) > 0 {
		c.Series = append(c.Series, line("a dial per socket", figure.Middle(pickDists(m.dial, pause))))
	}
	return c, true
}

// typical is the repetition with the middle p99.9 around the handoff.
func (m *moves) typical() batonMove {
	sorted := slices.SortedFunc(slices.Values(m.baton), func(a, b batonMove) int { return int(a.around.P999 - b.around.P999) })
	return sorted[len(sorted)/2]
}

func (b *bench) plotLatency() (c chart.Chart, ok bool) {
	m := b.moves[b.size]
	if m == nil || len(m.baton) == 0 {
		return c, false
	}
	v := m.typical()
	c = chart.Chart{
		Name: "latency", Title: fmt.Sprintf("What %d clients feel of a handoff", m.n), X: "ms since the upgrade was asked for", Y: "µs", LogY: true,
		Note: "The repetition with the middle p99.9; answers by the moment at which they came, 20 ms together. Shaded: the first socket " +
			"lent to the last session moved, give or take the answer's way back.",
		Series: []chart.Series{{Name: "p50", Plain: true}, {Name: "p99", Plain: true}, {Name: "max", Plain: true}},
		Bands:  []chart.Band{{From: ms(v.done-v.asked) - v.handoff.Took, To: ms(v.done - v.asked), Name: "handoff"}},
	}
	for _, s := range slices20ms(v.samples, v.asked) {
		for i, y := range []int64{s.d.P50, s.d.P99, s.d.Max} {
			c.Series[i].Points = append(c.Series[i].Points, chart.Point{X: s.at, Y: us(float64(y))})
		}
	}
	return c, true
}

func ms(ns int64) float64 { return float64(ns) / 1e6 }

// A slice20ms is what came within 20 ms.
type slice20ms struct {
	at float64 // ms; its middle
	d  figure.Dist
}

// slices20ms sorts answers by when they came, relative to a moment, from a second before to three after.
func slices20ms(samples []crowd.Sample, zero int64) (all []slice20ms) {
	const width, from, to = 20, -1000, 3000 // ms
	var h *hdrhistogram.Histogram
	at := -1
	flush := func() {
		if h != nil {
			all = append(all, slice20ms{float64(from + at*width + width/2), figure.DistOf(h)})
		}
	}
	for _, s := range samples {
		when := ms(s.At-zero) - from
		if when < 0 || when >= to-from {
			continue
		}
		if i := int(when) / width; i != at {
			flush()
			at, h = i, figure.New()
		}
		figure.Record(h, s.Latency)
	}
	flush()
	return all
}

func (b *bench) plotCost() (c chart.Chart, ok bool) {
	c = chart.Chart{
		Name: "cost", Title: "Cost of moving a connection", X: "connections", Y: "µs each", LogY: true, Note: "Medians, with the smallest and largest.",
		Series: []chart.Series{{Name: "baton"}, {Name: "floor"}, {Name: "a message per socket"}, {Name: "a dial per socket"}},
	}
	add := func(i, n int, ns []float64) {
		if s := figure.SpreadOf(pick(ns, us)); len(s.All) > 0 {
			c.Series[i].Points = append(c.Series[i].Points, chart.Point{X: float64(n), Y: s.Median, Low: s.Min, High: s.Max})
			ok = true
		}
	}
	rivals := func(v rivalMove) float64 { return v.perConn }
	for _, n := range slices.Sorted(slices.Values(b.sizes)) {
		if m := b.moves[n]; m != nil {
			add(0, n, pick(m.baton, batonMove.perConn))
			add(1, n, m.floor)
			add(2, n, pick(m.one, rivals))
			add(3, n, pick(m.dial, rivals))
		}
	}
	return c, ok
}

func (b *bench) plotPauseSizes() (c chart.Chart, ok bool) {
	c = chart.Chart{
		Name: "pauses", Title: "The pause and the number of connections", X: "connections", Y: "µs", LogY: true, Note: "Medians; the maximum is the largest of all.",
		Series: []chart.Series{{Name: "p50"}, {Name: "p99"}, {Name: "p99.9"}, {Name: "max"}},
	}
	for _, n := range slices.Sorted(slices.Values(b.sizes)) {
		if m := b.moves[n]; m != nil && len(m.baton) > 0 {
			for i, p := range line("", figure.Middle(pickDists(m.baton, batonMove.pause))).Points {
				c.Series[i].Points = append(c.Series[i].Points, chart.Point{X: float64(n), Y: p.Y})
			}
		}
	}
	return c, len(c.Series[0].Points) > 1
}

func (b *bench) plotFrames() (c chart.Chart, ok bool) {
	c = chart.Chart{
		Name: "frames", Title: "Frames per second, closed loop", X: "connections", Y: "frames per second", LogX: true, Note: "Medians, with the smallest and largest.",
		Series: []chart.Series{{Name: "baton"}, {Name: "a plain Go server"}},
	}
	for _, at := range b.frames {
		for i, runs := range [][]loopRun{at.baton, at.plain} {
			s := figure.SpreadOf(pick(runs, func(v loopRun) float64 { return v.rate }))
			c.Series[i].Points = append(c.Series[i].Points, chart.Point{X: float64(at.n), Y: s.Median, Low: s.Min, High: s.Max})
		}
	}
	return c, len(b.frames) > 0
}
