package main

import (
	"context"

	"baton/tests/bench/internal/figure"
)

// A row is one promise: what is measured, against what, and the goal.
type row struct {
	Number  int      `json:"row"`
	Measure string   `json:"measure"`
	Against string   `json:"against"`
	Goal    string   `json:"goal"`
	Checks  []check  `json:"checks"`
	Figures []number `json:"figures"`
	Dists   []dist   `json:"distributions,omitempty"`
	Note    string   `json:"note,omitempty"`
	Error   string   `json:"error,omitempty"` // why it could not be measured

	measure func(context.Context, *bench, *row) error
}

// A check compares what was measured with the goal.
type check struct {
	number
	AtLeast bool    `json:"at_least,omitempty"` // else at most
	Limit   float64 `json:"limit"`
	Met     bool    `json:"met"`
}

// A number is one figure, with how far it spread.
type number struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	figure.Spread
}

// A dist is a distribution with a name.
type dist struct {
	Name string `json:"name"`
	figure.Dist
}

func (r *row) atMost(name, unit string, limit float64, s figure.Spread) {
	r.Checks = append(r.Checks, check{number{name, unit, s}, false, limit, len(s.All) > 0 && s.Median <= limit})
}

func (r *row) atLeast(name, unit string, limit float64, s figure.Spread) {
	r.Checks = append(r.Checks, check{number{name, unit, s}, true, limit, len(s.All) > 0 && s.Median >= limit})
}

// tell adds a figure that is no goal, if it was measured.
func (r *row) tell(name, unit string, s figure.Spread) {
	if len(s.All) == 0 {
		return
	}
	r.Figures = append(r.Figures, number{name, unit, s})
}

func (r *row) tellDist(name string, d figure.Dist) { r.Dists = append(r.Dists, dist{name, d}) }

// met reports whether every goal was.
func (r *row) met() bool {
	for _, c := range r.Checks {
		if !c.Met {
			return false
		}
	}
	return r.Error == "" && len(r.Checks) > 0
}

// one is a figure that was measured once.
func one(v float64) figure.Spread { return figure.SpreadOf([]float64{v}) }

// worst is a spread of which the largest value counts, not the median.
func worst(values []float64) figure.Spread {
	s := figure.SpreadOf(values)
	s.Median = s.Max
	return s
}

// us makes microseconds of nanoseconds.
func us(ns float64) float64 { return ns / 1000 }

// pick takes one number of each.
func pick[T any](of []T, get func(T) float64) []float64 {
	all := make([]float64, len(of))
	for i, v := range of {
		all[i] = get(v)
	}
	return all
}

// allRows are the promises, in order.
func allRows() []*row {
	return []*row{
		{Number: 1, measure: rowPause, Measure: "pause of a session, from freeze to resumed reading; journal on",
			Against: "a bare prototype: p50 20 µs, max 0.9 to 1.6 ms", Goal: "p50 ≤ 50 µs, p99 ≤ 1.5 ms, max ≤ 10 ms"},
		{Number: 2, measure: rowFloor, Measure: "transfer time per connection, journal on",
			Against: "the floor: sockets sent 252 at a time and registered with epoll, nothing else", Goal: "≤ 1.5 × the floor"},
		{Number: 3, measure: rowSizes, Measure: "the same at other sizes",
			Against: "itself at the smallest", Goal: "per connection at the largest ≤ 1.2 ×; the pause does not grow"},
		{Number: 4, measure: rowLatency, Measure: "client latency in the seconds around a handoff",
			Against: "the same clients in the seconds before", Goal: "p99.9 ≤ 1.5 ×, no frame over 20 ms more"},
		{Number: 5, measure: rowRivals, Measure: "transfer time per connection, against the common ways",
			Against: "a plain Go server: a message per socket; a dial and an answer per socket (MOSN's way)", Goal: "≥ 8 × and ≥ 10 × faster"},
		{Number: 6, measure: rowIdle, Measure: "memory per idle connection, predecessor and successor",
			Against: "a goroutine per connection, with 64 bytes and with bufio", Goal: "≤ 400 B"},
		{Number: 7, measure: rowPeak, Measure: "peak memory of both processes during a handoff",
			Against: "one process's before it", Goal: "≤ 2.2 ×"},
		{Number: 8, measure: rowFrames, Measure: "frames per second and p99, steady, closed loop",
			Against: "a plain Go server", Goal: "≥ 1.1 × at every size, p99 no worse"},
		{Number: 9, measure: rowVisits, Measure: "visits per second: accepted, asked once, closed; journaled",
			Against: "the same loop without journal, and a plain Go server", Goal: "≥ 0.95 × and ≥ 1 ×"},
		{Number: 10, measure: rowJournal, Measure: "journal: bytes per session and per handoff, time to replay one",
			Against: "reported", Goal: "replay ≤ 1 s"},
	}
}
