package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// A bench is one run of the benchmarks.
type bench struct {
	options
	began    time.Time
	progress io.Writer
	dir      string // for everything, removed at the end
	server   string // the program

	moves   map[int]*moves // by size; what rows 1 to 5, 7 and 10 are made of
	moveErr error
	frames  []framesAt
	others  []float64 // share of the processors that others used, before each turn
}

// build makes the server program.
func (b *bench) build(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "bb"); err != nil { // short: sockets' paths are limited
		return err
	}
	b.server = filepath.Join(b.dir, "server")
	b.say("building the server")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", b.server, "baton/cmd/server").CombinedOutput()
	if err != nil {
		os.RemoveAll(b.dir)
		return fmt.Errorf("building the server, which has to be done inside the repository: %w\n%s", err, out)
	}
	return nil
}

// say tells what is being done, to somebody who waits.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%6.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// wanted reports whether a row was asked for.
func (b *bench) wanted(r *row) bool {
	return b.only.MatchString(strconv.Itoa(r.Number)) || b.only.MatchString(r.Measure)
}

// measureAll measures row by row. A row that cannot be measured says why, and the others are; the error joins them.
func (b *bench) measureAll(ctx context.Context) (rows []*row, large *extrapolation, err error) {
	for _, r := range allRows() {
		if !b.wanted(r) {
			continue
		}
		if ctx.Err() != nil {
			return rows, nil, ctx.Err()
		}
		if e := r.measure(ctx, b, r); e != nil {
			r.Error = e.Error()
			err = errors.Join(err, fmt.Errorf("row %d: %w", r.Number, e))
		}
		rows = append(rows, r)
	}
	if b.large {
		var e error
		if large, e = b.measureLarge(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("large: %w", e))
		}
	}
	return rows, large, err
}

// short is the time of a step: the first, or with -quick the second.
func (b *bench) short(full, quick time.Duration) time.Duration {
	if b.quick {
		return quick
	}
	return full
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
