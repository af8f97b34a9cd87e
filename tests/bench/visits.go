package main

import (
	"context"
	"errors"
	"time"

	"baton/tests/bench/internal/crowd"
	"baton/tests/bench/internal/figure"
	"baton/tests/bench/internal/part"
	"baton/tests/bench/internal/rival"
)

// A visited is a server that visitors come to.
type visited struct {
	addr string
	pid  int
	rate []float64 // visits per second
	cpu  []float64 // µs of the server's processor time for each
}

func rowVisits(ctx context.Context, b *bench, r *row) (err error) {
	s, err := b.startServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	servers := []*visited{{addr: s.addr, pid: s.first.Process.Pid}}
	for _, kind := range []string{rival.KindBare, rival.KindPlain} {
		h, addr, err := startHost(kind)
		if err != nil {
			return err
		}
		defer h.Close()
		servers = append(servers, &visited{addr: addr, pid: h.PID()})
	}
	visitors, err := part.Start("crowd")
	if err != nil {
		return err
	}
	defer visitors.Close()
	for turn := range b.repeat + 1 { // the first does not count: it warms up
		b.say("turn %d of %d: visits", turn, b.repeat)
		for i := range servers {
			v := servers[(i+turn)%len(servers)]
			if err := b.visit(ctx, visitors, v, turn > 0); err != nil {
				return err
			}
		}
	}
	ours, bare, plain := servers[0], servers[1], servers[2]
	r.atLeast("visits per second over those without journal", "×", 0.95, figure.Ratios(ours.rate, bare.rate))
	r.atLeast("visits per second over a plain server's", "×", 1, figure.Ratios(ours.rate, plain.rate))
	for _, v := range []struct {
		name string
		*visited
	}{{"baton", ours}, {"without journal", bare}, {"plain", plain}} {
		r.tell(v.name, "visits/s", figure.SpreadOf(v.rate))
		r.tell(v.name+", server's processor time", "µs each", figure.SpreadOf(v.cpu))
	}
	return nil
}

// visit has visitors come to one server for a while.
func (b *bench) visit(ctx context.Context, visitors *part.Child, v *visited, counts bool) error {
	if err := b.calm(ctx); err != nil {
		return err
	}
	stay := crowd.Stay{Addr: v.addr, For: b.short(2*time.Second, 300*time.Millisecond)}
	before, err := cpuOf(v.pid)
	if err != nil {
		return err
	}
	var rate float64
	if err := visitors.Ask("visit", stay, &rate); err != nil {
		return err
	}
	// What they have left behind, closed sessions that are to be journaled, counts as well.
	if err := sleep(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	after, err := cpuOf(v.pid)
	if err == nil && counts {
		v.rate = append(v.rate, rate)
		v.cpu = append(v.cpu, (after-before)*1e6/(rate*stay.For.Seconds()))
	}
	return err
}
