package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Config says whom to load, and with what.
type Config struct {
	Addr     string        // host:port; an empty host is this machine
	Groups   []Group       // at least one connection in all
	Interval time.Duration // between the pings of one connection; must be below the server's read timeout; 0 = 200 ms
	Patience time.Duration // how long a dial, a pong or the end of a stream may take; 0 = 10 s
	Failures int           // how many failures the report tells of in full, the others are only counted; 0 = 20
}

// A Group is N connections that behave alike. With no behaviour chosen they are plain: one ping each Interval, the next only when the
// pong is here. Behaviours combine.
type Group struct {
	N        int           // connections
	Interval time.Duration // between pings; 0 = Config.Interval
	Pipeline int           // pings that may be unanswered at once, at most 64; 0 = 1; Slow has no such limit

	// Split sends the stream of pings in pieces of one to four bytes, cut anywhere, with gaps of up to 20 ms between them and every tenth
	// of up to a second: at any moment about half of these connections have half a frame at the server.
	Split bool

	// Slow sends Pile/4 pings at once, reads nothing for up to Pause, then reads everything. Its latency is not recorded, and its receive
	// buffer is kept small, so that the answers pile up at the server's end.
	Slow  bool
	Pile  int           // bytes of answers, a multiple of 4; 0 = 1 MiB
	Pause time.Duration // half of it up to all of it, at random; must be below the server's write timeout; 0 = 2 s

	// Churn closes after one to ten pings (Slow: after one pile) and dials again. Half of the time it ends its side first and reads the
	// rest to EOF, or else it closes with all answers read, or rudely with answers on their way.
	Churn bool
}

// Behaviour names what the group does: "plain", or the chosen ones joined by "+".
func (g Group) Behaviour() string {
	var names []string
	for _, b := range []struct {
		on   bool
		name string
	}{{g.Split, "split"}, {g.Slow, "slow"}, {g.Churn, "churn"}} {
		if b.on {
			names = append(names, b.name)
		}
	}
	if names == nil {
		return "plain"
	}
	return strings.Join(names, "+")
}

const (
	defaultInterval = 200 * time.Millisecond
	defaultPatience = 10 * time.Second
	defaultFailures = 20
	defaultPile     = 1 << 20 // bytes
	defaultPause    = 2 * time.Second
	maxPipeline     = 64 // pings; so few small writes never fill a send buffer, and so a ping can be written without a deadline
	dialsAtOnce     = 64 // while starting; keeps the server's accept queue short
	endsAtOnce      = 64 // while stopping, each endsPause; 16,000 a second
	endsPause       = 4 * time.Millisecond
)

// A Load is a running crowd. It ends with Stop, and only with Stop. Its methods may be called from any goroutine.
type Load struct {
	cfg     Config
	addr    string    // resolved once
	epoch   time.Time // Failure.At, Second.At and all other offsets count from here
	clients []*client
	meter   *meter
	ledger  ledger

	dialled, open atomic.Int64

	dialling chan struct{}      // one token per dial while starting
	started  chan error         // one result per client: its first answer is here, or why not
	stopping chan struct{}      // closed: send no more, end cleanly
	cut      context.CancelFunc // ends dials; connections are closed by hand
	running  sync.WaitGroup     // clients
	once     sync.Once          // Stop
	report   Report             // written under once
}

// Start opens all connections, a few at a time, and returns when each has had its first answer; latency counts from then on. It fails
// with what the first unlucky connection met, and leaves nothing behind. ctx bounds the start only.
func Start(ctx context.Context, cfg Config) (_ *Load, err error) {
	if err := cfg.fill(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	addr, err := net.ResolveTCPAddr("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("load: address %q: %w", cfg.Addr, err)
	}
	n := cfg.conns()
	if err := roomFor(n); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	life, cut := context.WithCancel(context.WithoutCancel(ctx))
	l := &Load{
		cfg:      cfg,
		addr:     addr.String(),
		epoch:    time.Now(),
		dialling: make(chan struct{}, dialsAtOnce),
		started:  make(chan error, n),
		stopping: make(chan struct{}),
		cut:      cut,
		meter:    newMeter(),
		ledger:   ledger{room: cfg.Failures},
	}
	for i := range l.cfg.Groups {
		g := &l.cfg.Groups[i]
		for range g.N {
			l.clients = append(l.clients, &client{l: l, g: g, id: len(l.clients), meter: l.meter.shard(len(l.clients))})
		}
	}
	for _, c := range l.clients {
		l.running.Go(func() { c.live(life) })
	}
	for range l.clients {
		select {
		case err = <-l.started:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			over, cancel := context.WithCancel(ctx)
			cancel()
			l.Stop(over)
			return nil, fmt.Errorf("load: start %d connections to %s: %w", n, l.addr, err)
		}
	}
	l.meter.begin(l.now())
	return l, nil
}

// fill puts the defaults in, and refuses what makes no sense. The caller's groups are not written to.
func (cfg *Config) fill() error {
	orDefault(&cfg.Interval, defaultInterval)
	orDefault(&cfg.Patience, defaultPatience)
	orDefault(&cfg.Failures, defaultFailures)
	cfg.Groups = append([]Group(nil), cfg.Groups...)
	for i := range cfg.Groups {
		g := &cfg.Groups[i]
		orDefault(&g.Interval, cfg.Interval)
		orDefault(&g.Pause, defaultPause)
		orDefault(&g.Pile, defaultPile)
		orDefault(&g.Pipeline, 1)
		switch {
		case g.N < 0 || g.Interval < 0 || g.Pause < 0 || g.Pile < 0 || cfg.Patience < 0 || cfg.Failures < 0:
			return fmt.Errorf("group %d: negative numbers make no sense", i)
		case g.Pile%len(ping) != 0:
			return fmt.Errorf("group %d: a pile of %d bytes is not a whole number of pongs; choose a multiple of %d", i, g.Pile, len(pong))
		case g.Pipeline < 0 || g.Pipeline > maxPipeline:
			return fmt.Errorf("group %d: pipeline of %d pings; choose 1 to %d", i, g.Pipeline, maxPipeline)
		}
	}
	if cfg.conns() == 0 {
		return errors.New("no connections asked for")
	}
	return nil
}

func orDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func (cfg *Config) conns() (n int) {
	for _, g := range cfg.Groups {
		n += g.N
	}
	return n
}

// Live returns the numbers so far. It is cheap enough to be called at every redraw of a table.
func (l *Load) Live() Stats {
	s := Stats{
		Open:    int(l.open.Load()),
		Dialled: l.dialled.Load(),
	}
	s.Frames, s.Bytes = l.meter.counts()
	l.ledger.addTo(&s)
	return s
}

// Stop ends the load and returns its report. Each connection sends no more, receives every outstanding pong, ends its side, and expects
// EOF with nothing before it; a failure in this counts like any other. Stop ends by itself once Patience is over; when ctx ends first,
// the connections that are left are closed and counted as cut. All goroutines have ended when it returns. A second call returns the same
// report.
func (l *Load) Stop(ctx context.Context) Report {
	l.once.Do(func() {
		close(l.stopping)
		l.pokeAll(ctx)
		ended := make(chan struct{})
		go func() { l.running.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-ctx.Done():
			l.cut()
			for _, c := range l.clients {
				c.kill()
			}
			<-ended
		}
		l.cut()
		l.report = Report{Conns: len(l.clients), Failures: l.ledger.failures()}
		l.report.Latency, l.report.OwnDelay, l.report.Worst = l.meter.end(l.now())
		l.report.Stats = l.Live()
	})
	return l.report
}

// pokeAll wakes the clients little by little. All at once they would keep each other, and the pongs that are on their way, waiting; the
// worst second would then always be the last.
func (l *Load) pokeAll(ctx context.Context) {
	for batch := range slices.Chunk(l.clients, endsAtOnce) {
		for _, c := range batch {
			c.poke()
		}
		select {
		case <-time.After(endsPause):
		case <-ctx.Done(): // the rest will be cut
			return
		}
	}
}

func (l *Load) now() time.Duration { return time.Since(l.epoch) }

func (l *Load) isStopping() bool {
	select {
	case <-l.stopping:
		return true
	default:
		return false
	}
}

// pause waits for d, or until the load stops; it reports whether the load goes on.
func (l *Load) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.stopping:
		return false
	}
}

// firstDue spreads the clients evenly over an interval, so that a thousand of them do not ping in one breath. It returns the next moment
// that is client id's.
func (l *Load) firstDue(id int, interval time.Duration) time.Duration {
	phase := time.Duration(float64(interval) * float64(id) / float64(len(l.clients)))
	rounds := (l.now() - phase + interval) / interval
	return phase + rounds*interval
}

// upTo returns a random duration in [0, d].
func upTo(d time.Duration) time.Duration { return rand.N(d + 1) }
