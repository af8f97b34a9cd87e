package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"baton/internal/human"
	"baton/tests/bench/internal/figure"
	"baton/tests/bench/internal/large"
)

// extrapolation is what can be said of more connections than this machine holds.
type extrapolation struct {
	Method       string     `json:"method"`
	Parts        []partCost `json:"parts"`
	Extrapolated []string   `json:"extrapolated"`
}

// A partCost is one part with n sessions.
type partCost struct {
	Name  string  `json:"name"`
	N     int     `json:"sessions"`
	Time  float64 `json:"ns_each"`
	Heap  float64 `json:"heap_bytes_each,omitempty"`
	File  float64 `json:"file_bytes_each,omitempty"`
	Slope float64 `json:"time_over_the_smallest"`
}

const largeMethod = "No sockets: the code that could bend the slope is driven with that many sessions in one process, and compared with itself at 15,000. " +
	"What is left, system calls for each socket and messages for each batch, was measured with real sockets at up to 18,000 and is taken to " +
	"grow in proportion."

// reference is the size that the large ones are compared with.
const reference = 15_000

// measureLarge drives each part at the reference and at one and ten million; the journal at one.
func (b *bench) measureLarge(ctx context.Context) (*extrapolation, error) {
	x := &extrapolation{Method: largeMethod}
	million := []int{reference, 1_000_000, 10_000_000}
	if b.quick {
		million = []int{reference, 200_000}
	}
	table := func(n int) (large.Cost, error) { return large.Tables(n), nil }
	if err := b.drive(ctx, x, "tables by session id", million, table); err != nil {
		return x, err
	}
	if err := b.drive(ctx, x, "the conversation, both sides", million, large.Talk); err != nil {
		return x, err
	}
	replays := map[int]time.Duration{}
	book := func(n int) (c large.Cost, err error) {
		c, replays[n], err = large.Book(b.dir, n)
		return c, err
	}
	if err := b.drive(ctx, x, "the predecessor's journal", million[:2], book); err != nil {
		return x, err
	}
	b.extrapolate(x, million, replays)
	return x, nil
}

// drive measures one part at some sizes, each several times, and keeps the medians.
func (b *bench) drive(ctx context.Context, x *extrapolation, name string, sizes []int, run func(int) (large.Cost, error)) error {
	first := 0.0
	for _, n := range sizes {
		b.say("%s, %s sessions", name, human.Count(int64(n)))
		var times []float64
		var c large.Cost
		for range b.timesFor(n) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var err error
			if c, err = run(n); err != nil {
				return fmt.Errorf("%s, %d sessions: %w", name, n, err)
			}
			times = append(times, c.Time)
		}
		p := partCost{Name: name, N: n, Time: figure.Median(times), Heap: c.Heap, File: c.File, Slope: 1}
		if first == 0 {
			first = p.Time
		}
		p.Slope = p.Time / first
		x.Parts = append(x.Parts, p)
	}
	return nil
}

// timesFor is how often a size is measured: the small ones are over so quickly that anything disturbs them.
func (b *bench) timesFor(n int) int {
	switch {
	case n <= reference:
		return 4*b.repeat + 1
	case n <= 1_000_000:
		return min(3, b.repeat)
	}
	return 1
}

// extrapolate adds what the parts cost more than at the reference to what a connection costs with real sockets.
func (b *bench) extrapolate(x *extrapolation, sizes []int, replays map[int]time.Duration) {
	for _, n := range sizes[1:] {
		more, memory := 0.0, 0.0
		base := map[string]float64{}
		for _, p := range x.Parts {
			switch p.N {
			case reference:
				base[p.Name] = p.Time
			case n:
				more += p.Time - base[p.Name]
				memory += p.Heap * float64(n)
			}
		}
		count := human.Count(int64(n))
		text := fmt.Sprintf("With %s sessions a connection costs %s µs more than with %s, by these parts", count, short(us(more)), human.Count(reference))
		if m := b.moves[b.size]; m != nil && len(m.baton) > 0 {
			per := figure.Median(pick(m.baton, batonMove.perConn))
			text += fmt.Sprintf("; added to the %s µs measured with %s, a transfer would take %s s", short(us(per)), human.Count(int64(m.n)), short((per+more)*float64(n)/1e9))
		}
		text += fmt.Sprintf(". The tables and both sides of the conversation take %s MiB.", short(memory/(1<<20)))
		if took, ok := replays[n]; ok {
			text += fmt.Sprintf(" The journal of one side is read in %s s.", short(took.Seconds()))
		}
		x.Extrapolated = append(x.Extrapolated, text)
	}
	x.Extrapolated = append(x.Extrapolated, "Linux lets a process have 1,048,576 descriptors unless fs.nr_open is raised, so ten million connections "+
		"are ten servers, or that setting.")
}

// TimeText and BytesText are for people.
func (p partCost) TimeText() string { return short(p.Time) + " ns" }

func (p partCost) BytesText() string {
	switch {
	case p.File > 0:
		return short(p.File) + " B on disk"
	case p.Heap > 0:
		return short(p.Heap) + " B"
	}
	return ""
}

func (x *extrapolation) writeTable(w io.Writer) {
	if x == nil {
		return
	}
	fmt.Fprintf(w, "\nat one and ten million: %s\n", x.Method)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range x.Parts {
		fmt.Fprintf(t, "   %s\t%s\t%s each\t%s each\t%s ×\t\n", p.Name, human.Count(int64(p.N)), p.TimeText(), p.BytesText(), short(p.Slope))
	}
	t.Flush()
	for _, text := range x.Extrapolated {
		fmt.Fprintf(w, "   %s\n", text)
	}
}
