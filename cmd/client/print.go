package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"baton/internal/human"
	"baton/internal/load"
)

// printTable writes the report for people.
func printTable(w io.Writer, cfg load.Config, r load.Report, took time.Duration) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s connections to %s for %.1fs\n\n", human.Count(int64(r.Conns)), cfg.Groups[0].Behaviour(), cfg.Addr, took.Seconds())
	fmt.Fprintf(&b, "%-14s%12s\n", "dialled", human.Count(r.Dialled))
	fmt.Fprintf(&b, "%-14s%12s\n", "frames", human.Count(r.Frames))
	fmt.Fprintf(&b, "%-14s%12s\n", "dropped", human.Count(r.Drops))
	fmt.Fprintf(&b, "%-14s%12s\n", "wrong bytes", human.Count(r.Wrong))
	fmt.Fprintf(&b, "%-14s%12s\n", "refused", human.Count(r.Refused))
	if r.Latency.TotalCount() > 0 {
		fmt.Fprintf(&b, "\n%-14s%12s%12s%12s%12s\n", "latency", "p50", "p99", "p99.9", "max")
		printLatency(&b, "overall", r.Latency)
		printLatency(&b, fmt.Sprintf("second %d", int(r.Worst.At.Seconds())), r.Worst.Latency)
		printLatency(&b, "own delay", r.OwnDelay)
	}
	if len(r.Failures) > 0 {
		fmt.Fprintf(&b, "\nthe first %d failures\n", len(r.Failures))
		for _, f := range r.Failures {
			fmt.Fprintln(&b, f)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printLatency(w io.Writer, name string, h *hdrhistogram.Histogram) {
	l := summarise(h)
	fmt.Fprintf(w, "%-14s%12s%12s%12s%12s\n", name, short(l.P50), short(l.P99), short(l.P999), short(l.Max))
}

// A latency is a distribution in four numbers, in nanoseconds.
type latency struct {
	Count int64         `json:"count"`
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
	P999  time.Duration `json:"p999"`
	Max   time.Duration `json:"max"`
}

func summarise(h *hdrhistogram.Histogram) latency {
	if h.TotalCount() == 0 {
		return latency{} // Max of an empty histogram is not 0
	}
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtQuantile(q)) }
	return latency{h.TotalCount(), at(50), at(99), at(99.9), time.Duration(h.Max())}
}

// printJSON writes the report for machines.
func printJSON(w io.Writer, cfg load.Config, r load.Report, took time.Duration) error {
	type second struct {
		At time.Duration `json:"at_ns"` // since the start
		latency
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		OK        bool           `json:"ok"`
		Addr      string         `json:"addr"`
		Behaviour string         `json:"behaviour"`
		Took      time.Duration  `json:"took_ns"`
		Conns     int            `json:"connections"`
		Dialled   int64          `json:"dialled"`
		Frames    int64          `json:"frames"`
		Bytes     int64          `json:"bytes"`
		Drops     int64          `json:"dropped"`
		Wrong     int64          `json:"wrong_bytes"`
		Refused   int64          `json:"refused"`
		Latency   latency        `json:"latency_ns"`
		Worst     second         `json:"worst_second_ns"`
		OwnDelay  latency        `json:"own_delay_ns"`
		Failures  []load.Failure `json:"failures"`
	}{
		r.OK(), cfg.Addr, cfg.Groups[0].Behaviour(), took, r.Conns, r.Dialled, r.Frames, r.Bytes, r.Drops, r.Wrong, r.Refused,
		summarise(r.Latency), second{r.Worst.At, summarise(r.Worst.Latency)}, summarise(r.OwnDelay), r.Failures,
	})
}

// short rounds a duration to three digits, so that a column of them can be compared at a glance.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}
