// Package figure is the arithmetic of the benchmarks: distributions, medians, and ratios of what was measured in pairs.
package figure

import (
	"math"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// New returns an empty histogram of nanoseconds, from a microsecond to 100 s, with three digits.
func New() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(100*time.Second), 3)
}

// Record enters a time; beyond the histogram's end it counts as the end.
func Record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(min(max(ns, 0), h.HighestTrackableValue()))
}

// A Dist is a distribution in the numbers that are told of it, in nanoseconds.
type Dist struct {
	Count int64 `json:"count"`
	P50   int64 `json:"p50_ns"`
	P99   int64 `json:"p99_ns"`
	P999  int64 `json:"p999_ns"`
	Max   int64 `json:"max_ns"`
}

// DistOf summarises a histogram. An empty one is the zero Dist, whose Count says so.
func DistOf(h *hdrhistogram.Histogram) Dist {
	if h == nil || h.TotalCount() == 0 {
		return Dist{} // Max of an empty histogram is not 0
	}
	return Dist{h.TotalCount(), h.ValueAtQuantile(50), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max()}
}

// Middle is a distribution of distributions that cannot be merged, since only these numbers of each are known: the medians of their
// percentiles, and the largest of their maxima.
func Middle(of []Dist) (m Dist) {
	pick := func(get func(Dist) int64) []float64 {
		var all []float64
		for _, d := range of {
			all = append(all, float64(get(d)))
		}
		return all
	}
	if len(of) == 0 {
		return m
	}
	m.P50 = int64(Median(pick(func(d Dist) int64 { return d.P50 })))
	m.P99 = int64(Median(pick(func(d Dist) int64 { return d.P99 })))
	m.P999 = int64(Median(pick(func(d Dist) int64 { return d.P999 })))
	for _, d := range of {
		m.Count += d.Count
		m.Max = max(m.Max, d.Max)
	}
	return m
}

// Median of an even number of values is the mean of the middle two; of none, NaN.
func Median(of []float64) float64 {
	if len(of) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(of))
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// A Spread is one number that was measured several times.
type Spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	All    []float64 `json:"all"`
}

// SpreadOf leaves out what is not a finite number: JSON has no word for it, and it was not measured.
func SpreadOf(values []float64) Spread {
	all := []float64{}
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return Spread{All: all}
	}
	return Spread{Median(all), slices.Min(all), slices.Max(all), all}
}

// Ratios divides what was measured in pairs, one after the other, so that what the machine was busy with at the time falls out. The pairs
// are taken as far as both go.
func Ratios(a, b []float64) Spread {
	var all []float64
	for i := range min(len(a), len(b)) {
		all = append(all, a[i]/b[i])
	}
	return SpreadOf(all)
}
