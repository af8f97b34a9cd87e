package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"baton/handoff"
	"baton/internal/mono"
	"baton/tests/bench/internal/crowd"
	"baton/tests/bench/internal/figure"
	"baton/tests/bench/internal/rival"
)

// moves is what was measured of moving n connections: the same number of times each, by turns.
type moves struct {
	n         int
	baton     []batonMove
	floor     []float64 // ns per connection
	floorCPU  []float64 // the same, of processor time, both processes
	one, dial []rivalMove
	replayed  []float64 // s, of -replay -json after the last
	journal   journalSize
}

// A batonMove is one upgrade of the real server.
type batonMove struct {
	handoff        handoff.Handoff
	steady, around figure.Dist // latency
	own            figure.Dist // by which the clients sent late through their own fault
	samples        []crowd.Sample
	asked, done    int64   // when the upgrade was asked for and was over; monotonic ns
	cpu            float64 // s of processor time, of both, from the request to the end; the successor's start is part of it
	memory         peaks
	journal        int64 // bytes that all journals have grown by
}

func (m batonMove) perConn() float64 { return m.handoff.Took * 1e6 / float64(m.handoff.Moved) } // ns
func (m batonMove) pause() figure.Dist {
	p := m.handoff.Pause
	return figure.Dist{Count: int64(m.handoff.Moved), P50: p.P50 * 1000, P99: p.P99 * 1000, P999: p.P999 * 1000, Max: p.Max * 1000}
}

// A rivalMove is one move of a plain server's connections.
type rivalMove struct {
	perConn float64 // ns
	pause   figure.Dist
}

// interval is between two pings of one connection: n connections make n frames a second, or with -quick twice as many.
func (b *bench) interval() time.Duration { return b.short(time.Second, 500*time.Millisecond) }

// Times around a move: until every connection has pinged since the crowd was at rest, in which to see what is usual, and in which to feel
// what comes of the move.
func (b *bench) warm() time.Duration   { return b.interval() + 200*time.Millisecond }
func (b *bench) steady() time.Duration { return b.short(3*time.Second, 700*time.Millisecond) }
func (b *bench) late() time.Duration   { return b.short(time.Second, 500*time.Millisecond) }

// A mover is something that is moved by turns with others.
type mover struct {
	name  string
	once  func(context.Context) error
	close func() error
}

// measureMoves moves everything that the wanted rows need, once for all of them.
func (b *bench) measureMoves(ctx context.Context) error {
	if b.moves != nil {
		return b.moveErr
	}
	b.moves = map[int]*moves{}
	b.moveErr = b.moveByTurns(ctx)
	return b.moveErr
}

func (b *bench) moveByTurns(ctx context.Context) (err error) {
	movers, err := b.movers(ctx)
	defer func() {
		for _, m := range movers {
			err = errors.Join(err, m.close())
		}
	}()
	if err != nil {
		return err
	}
	for turn := range b.repeat {
		for i := range movers {
			m := movers[(i+turn)%len(movers)] // none is always the one after the same other
			b.say("turn %d of %d: %s", turn+1, b.repeat, m.name)
			if err := b.calm(ctx); err != nil {
				return err
			}
			if err := m.once(ctx); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	return nil
}

// movers sets up what is to be moved. All of it stands at the same time, and all but one at rest.
func (b *bench) movers(ctx context.Context) (list []mover, err error) {
	sizes := []int{b.size}
	if b.wants(3) {
		sizes = b.sizes
	}
	for _, n := range sizes {
		b.moves[n] = &moves{n: n}
		m, err := b.batonMover(ctx, b.moves[n])
		if err != nil {
			return list, err
		}
		list = append(list, m)
		if n == b.size && b.wants(2) || b.wants(3) && !b.quick {
			m, err := b.floorMover(b.moves[n])
			if err != nil {
				return list, err
			}
			list = append(list, m)
		}
	}
	if b.wants(5) {
		m, err := b.rivalMovers(b.moves[b.size])
		return append(list, m...), err
	}
	return list, nil
}

// wants reports whether a row of this number was asked for.
func (b *bench) wants(number int) bool { return b.wanted(allRows()[number-1]) }

func (b *bench) batonMover(ctx context.Context, m *moves) (mover, error) {
	b.say("%d connections to the server", m.n)
	s, err := b.startServer(ctx)
	if err != nil {
		return mover{}, err
	}
	empty := s.journalBytes()
	c, err := crowdOf(s.addr, m.n)
	if err != nil {
		s.stop()
		return mover{}, err
	}
	if err := sleep(ctx, 200*time.Millisecond); err != nil { // the journal trails by 50 ms
		return mover{}, err
	}
	m.journal = journalSize{empty: empty, full: s.journalBytes()}
	return mover{
		name: fmt.Sprintf("upgrade under %d connections", m.n),
		once: func(ctx context.Context) error { return b.upgradeOnce(ctx, s, c, m) },
		close: func() error {
			c.Close()
			err := s.stop()
			if err == nil && m.n == b.size && b.wants(10) {
				m.replayed, err = b.timeReplay(s.dir)
			}
			return err
		},
	}, nil
}

// upgradeOnce upgrades under load, with time to see the clients before and after.
func (b *bench) upgradeOnce(ctx context.Context, s *baton, c *clients, m *moves) error {
	if err := errors.Join(s.settle(ctx), c.Ask("pace", b.interval(), nil), sleep(ctx, b.warm())); err != nil {
		return err
	}
	if _, err := c.take(); err != nil {
		return err
	}
	if err := sleep(ctx, b.steady()); err != nil {
		return err
	}
	v := batonMove{}
	before := s.journalBytes()
	status, err := s.client.Status(ctx)
	if err != nil {
		return err
	}
	if err := v.upgrade(ctx, s, status.PID); err != nil {
		return err
	}
	if got := v.handoff.Moved + v.handoff.Stragglers; got != m.n {
		return fmt.Errorf("%d of %d connections were moved, stragglers included", got, m.n)
	}
	if err := sleep(ctx, b.late()); err != nil {
		return err
	}
	r, err := c.rest()
	if err != nil {
		return err
	}
	v.journal = s.journalBytes() - before
	v.samples, v.own = r.Samples, figure.DistOf(r.OwnDelay)
	v.steady, v.around = latencyAround(r.Samples, v.asked, v.done+int64(b.late()))
	m.baton = append(m.baton, v)
	return nil
}

// upgrade upgrades the server, which is the process pid, and looks at both sides.
func (v *batonMove) upgrade(ctx context.Context, s *baton, pid int) error {
	v.memory.begin(pid)
	before, err := cpuOf(pid)
	if err != nil {
		return err
	}
	v.asked = mono.Now()
	if v.handoff, err = s.upgrade(ctx); err != nil {
		return err
	}
	v.done = mono.Now()
	v.memory.end(pid, v.handoff.PID)
	after, err := cpuOfAll(pid, v.handoff.PID)
	v.cpu = after - before
	return err
}

// latencyAround sorts answers into those of pings that were due before a moment, and those from then on.
func latencyAround(samples []crowd.Sample, from, to int64) (before, around figure.Dist) {
	b, a := figure.New(), figure.New()
	for _, s := range samples {
		switch {
		case s.At < from:
			figure.Record(b, s.Latency)
		case s.At-s.Latency < to:
			figure.Record(a, s.Latency)
		}
	}
	return figure.DistOf(b), figure.DistOf(a)
}

func (b *bench) floorMover(m *moves) (mover, error) {
	b.say("%d connections to be lent", m.n)
	r, err := b.newFloorRig(m.n)
	if err != nil {
		return mover{}, err
	}
	return mover{
		name: fmt.Sprintf("floor with %d connections", m.n),
		once: func(ctx context.Context) error {
			return b.underLoad(ctx, r.crowd, func() error { return r.lend(m) })
		},
		close: func() error { r.close(); return nil },
	}, nil
}

// rivalMovers are two that share their connections.
func (b *bench) rivalMovers(m *moves) ([]mover, error) {
	b.say("%d connections to a plain server", m.n)
	r, err := b.newRivalRig(m.n)
	if err != nil {
		return nil, err
	}
	by := func(way string, into *[]rivalMove) func(context.Context) error {
		return func(ctx context.Context) error {
			return b.underLoad(ctx, r.crowd, func() error {
				moved, got, err := r.move(way)
				*into = append(*into, rivalMove{float64(moved.Took) / float64(moved.N), got.Pause})
				return err
			})
		}
	}
	return []mover{
		{"a message per socket", by(rival.OnePerMessage, &m.one), func() error { return nil }},
		{"a dial per socket", by(rival.OnePerDial, &m.dial), func() error { r.close(); return nil }},
	}, nil
}

// underLoad does something while a crowd pings.
func (b *bench) underLoad(ctx context.Context, c *clients, do func() error) error {
	if err := errors.Join(c.Ask("pace", b.interval(), nil), sleep(ctx, b.warm())); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	_, err := c.rest()
	return err
}

// journalBytes is what the journals of a workspace take.
func (s *baton) journalBytes() (n int64) {
	files, _ := filepath.Glob(filepath.Join(s.dir, "journal", "*.db"))
	for _, f := range files {
		if fi, err := os.Stat(f); err == nil {
			n += fi.Size()
		}
	}
	return n
}
