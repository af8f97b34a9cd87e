package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"baton/tests/bench/internal/figure"
	"baton/tests/bench/internal/part"
	"baton/tests/bench/internal/rival"
)

// footprint is what a process has of memory that is its own, in bytes.
type footprint struct {
	found float64 // anonymous pages, garbage that waits for its collection included
	rss   float64 // the same after a collection
	heap  float64 // what lives there, with the goroutines' stacks
}

// per is the difference that each of n connections makes.
func (f footprint) per(empty footprint, n int) footprint {
	each := func(with, without float64) float64 { return (with - without) / float64(n) }
	return footprint{each(f.found, empty.found), each(f.rss, empty.rss), each(f.heap, empty.heap)}
}

// look takes a process's footprint. memory has it collect its garbage and tell.
func look(pid int, memory func() (rival.Memory, error)) (f footprint, err error) {
	file := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	found, err := procField(file, "Anonymous")
	if err != nil {
		return f, err
	}
	m, err := memory()
	if err != nil {
		return f, err
	}
	rss, err := procField(file, "Anonymous")
	return footprint{float64(found), float64(rss), float64(m.Heap + m.Stack)}, err
}

// idle is a row's worth of footprints, per connection.
type idle struct{ before, giving, got, after, plain, buffered []footprint }

func rowIdle(ctx context.Context, b *bench, r *row) error {
	var all idle
	for turn := range (b.repeat + 1) / 2 { // memory does not depend on what else the machine does
		b.say("turn %d of %d: memory of %d connections", turn+1, (b.repeat+1)/2, b.size)
		if err := b.idleBaton(ctx, &all); err != nil {
			return err
		}
		for kind, into := range map[string]*[]footprint{rival.KindPlain: &all.plain, rival.KindBuffered: &all.buffered} {
			if err := b.idleRival(ctx, kind, into); err != nil {
				return err
			}
		}
	}
	heap := func(f footprint) float64 { return f.heap }
	rss := func(f footprint) float64 { return f.rss }
	found := func(f footprint) float64 { return f.found }
	spread := func(of []footprint, get func(footprint) float64) figure.Spread { return figure.SpreadOf(pick(of, get)) }
	r.atMost(fmt.Sprintf("predecessor, heap, each of %d", b.size), "B", 400, spread(all.before, heap))
	r.atMost("predecessor, resident", "B", 400, spread(all.before, rss))
	r.atMost("successor, heap", "B", 400, spread(all.after, heap))
	r.atMost("successor, resident", "B", 400, spread(all.after, rss))
	r.tell("predecessor, resident before a collection", "B", spread(all.before, found))
	r.tell("predecessor in probation, heap", "B", spread(all.giving, heap))
	r.tell("successor in probation, heap", "B", spread(all.got, heap))
	r.tell("goroutine and 64 bytes, heap and stacks", "B", spread(all.plain, heap))
	r.tell("goroutine and 64 bytes, resident", "B", spread(all.plain, rss))
	r.tell("goroutine and bufio, heap and stacks", "B", spread(all.buffered, heap))
	r.tell("goroutine and bufio, resident", "B", spread(all.buffered, rss))
	return nil
}

// idleBaton compares two servers that differ in nothing but in having connections.
func (b *bench) idleBaton(ctx context.Context, all *idle) error {
	empty, err := b.lifeOf(ctx, 0)
	if err != nil {
		return err
	}
	full, err := b.lifeOf(ctx, b.size)
	if err != nil {
		return err
	}
	for i, into := range []*[]footprint{&all.before, &all.giving, &all.got, &all.after} {
		*into = append(*into, full[i].per(empty[i], b.size))
	}
	return nil
}

// lifeOf looks at a server with n idle connections before a handoff, at both sides after it, and at the successor when it is alone.
func (b *bench) lifeOf(ctx context.Context, n int) (f [4]footprint, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	s, err := b.startBaton(ctx, self, "-role", "server")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if n > 0 {
		c, err := crowdOf(s.addr, n)
		if err != nil {
			return f, err
		}
		defer c.Close()
	}
	if err := sleep(ctx, 300*time.Millisecond); err != nil {
		return f, err
	}
	at := func(pid int) (footprint, error) {
		return look(pid, func() (rival.Memory, error) { return askMemory(ctx, s.dir, pid) })
	}
	first := s.first.Process.Pid
	if f[0], err = at(first); err != nil {
		return f, err
	}
	h, err := s.upgrade(ctx)
	if err != nil {
		return f, err
	}
	var errs [3]error
	f[1], errs[0] = at(first)
	f[2], errs[1] = at(h.PID)
	if err := errors.Join(errs[0], errs[1], s.settle(ctx)); err != nil {
		return f, err
	}
	f[3], err = at(h.PID)
	return f, err
}

// idleRival does the same for a plain server.
func (b *bench) idleRival(ctx context.Context, kind string, into *[]footprint) error {
	h, addr, err := startHost(kind)
	if err != nil {
		return err
	}
	defer h.Close()
	empty, err := lookAtHost(h)
	if err != nil {
		return err
	}
	c, err := crowdOf(addr, b.size)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := sleep(ctx, 300*time.Millisecond); err != nil {
		return err
	}
	full, err := lookAtHost(h)
	*into = append(*into, full.per(empty, b.size))
	return err
}

func lookAtHost(h *part.Child) (footprint, error) {
	return look(h.PID(), func() (m rival.Memory, err error) {
		err = h.Ask("memory", nil, &m)
		return m, err
	})
}
