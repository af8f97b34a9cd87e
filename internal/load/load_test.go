package load_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"baton/internal/load"
)

// mixed has some of each behaviour and of their combinations.
func mixed(addr string) load.Config {
	return load.Config{
		Addr:     addr,
		Interval: 20 * time.Millisecond,
		Patience: 5 * time.Second,
		Groups: []load.Group{
			{N: 10},
			{N: 5, Pipeline: 8, Interval: time.Millisecond},
			{N: 10, Split: true},
			{N: 2, Slow: true, Pile: 1 << 20, Pause: 200 * time.Millisecond},
			{N: 2, Slow: true, Split: true, Pile: 64 << 10, Pause: 100 * time.Millisecond},
			{N: 10, Churn: true},
			{N: 10, Churn: true, Split: true},
			{N: 2, Churn: true, Slow: true, Pile: 64 << 10, Pause: 100 * time.Millisecond},
		},
	}
}

func start(t testing.TB, cfg load.Config) *load.Load {
	t.Helper()
	l, err := load.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run loads for d and stops.
func run(t testing.TB, cfg load.Config, d time.Duration) load.Report {
	t.Helper()
	l := start(t, cfg)
	time.Sleep(d)
	return l.Stop(t.Context())
}

func TestHonestServerPasses(t *testing.T) {
	t.Parallel()
	s := serve(t, honest)
	r := run(t, mixed(s.addr), 700*time.Millisecond)
	for _, f := range r.Failures {
		t.Error(f)
	}
	if !r.OK() || r.Open != 0 || r.Conns != 51 {
		t.Errorf("%+v", r.Stats)
	}
	if r.Dialled <= 51 {
		t.Errorf("dialled %d: nobody churned", r.Dialled)
	}
	if min := int64(2 << 20 / 4); r.Frames < min {
		t.Errorf("%d frames: the slow ones alone should have had %d", r.Frames, min)
	}
	if r.Bytes < 4*r.Frames || r.Bytes > 4*r.Frames+4*r.Dialled {
		t.Errorf("%d bytes in %d frames", r.Bytes, r.Frames)
	}
	if r.OwnDelay.TotalCount() == 0 {
		t.Error("no own delays")
	}
	if n := r.Latency.TotalCount(); n == 0 || n > 30_000 {
		t.Errorf("%d latencies: want those of the pinging ones, without the slow ones", n)
	}
}

// TestVerdicts bends an honest server in one way each, and wants exactly that to be counted.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	type counts struct{ drops, wrong, refused int64 }
	at := func(k int, bend func(c *net.TCPConn, pong []byte) ([]byte, error)) misbehave {
		return func(c *net.TCPConn, n, i int, pong []byte) ([]byte, error) {
			if n == 1 && i == k && pong != nil {
				return bend(c, pong)
			}
			return pong, nil
		}
	}
	atEnd := func(bend func(c *net.TCPConn) ([]byte, error)) misbehave {
		return func(c *net.TCPConn, n, _ int, pong []byte) ([]byte, error) {
			if n == 1 && pong == nil {
				return bend(c)
			}
			return pong, nil
		}
	}
	for _, tc := range []struct {
		name string
		bend misbehave
		want counts
		says string
	}{
		{"drops a connection", at(3, func(*net.TCPConn, []byte) ([]byte, error) { return nil, io.EOF }),
			counts{drops: 1}, "the server closed the connection: EOF, 4 bytes of pongs owed"},
		{"drops an idle connection", at(3, func(c *net.TCPConn, pong []byte) ([]byte, error) {
			_, err := c.Write(pong)
			return nil, errors.Join(err, io.EOF)
		}), counts{drops: 1}, "the server closed the connection: EOF"},
		{"resets", at(3, func(c *net.TCPConn, _ []byte) ([]byte, error) { return nil, errors.Join(c.SetLinger(0), io.EOF) }),
			counts{drops: 1}, "connection reset by peer"},
		{"sends a wrong byte", at(3, func(*net.TCPConn, []byte) ([]byte, error) { return []byte("pOng"), nil }),
			counts{wrong: 1}, `byte 13 of the answers and on is "Ong"`},
		{"sends wrong bytes", at(3, func(*net.TCPConn, []byte) ([]byte, error) { return []byte("ping"), nil }),
			counts{wrong: 1}, `byte 13`},
		{"sends an extra pong", at(3, func(*net.TCPConn, []byte) ([]byte, error) { return []byte("pongpong"), nil }),
			counts{wrong: 4}, "4 are surplus"},
		{"sends an extra byte later", at(3, func(c *net.TCPConn, pong []byte) ([]byte, error) {
			time.AfterFunc(10*time.Millisecond, func() { _, _ = c.Write([]byte("p")) })
			return pong, nil
		}), counts{wrong: 1}, "1 are surplus"},
		{"loses a pong", at(3, func(*net.TCPConn, []byte) ([]byte, error) { return nil, nil }),
			counts{drops: 1}, "no pong within 300ms, 4 bytes of pongs owed"},
		{"loses half a pong", at(3, func(*net.TCPConn, []byte) ([]byte, error) { return []byte("po"), nil }),
			counts{drops: 1}, "no pong within 300ms, 2 bytes of pongs owed"},
		{"answers too late", at(3, func(_ *net.TCPConn, pong []byte) ([]byte, error) {
			time.Sleep(600 * time.Millisecond)
			return pong, nil
		}),
			counts{drops: 1}, "no pong within 300ms, 4 bytes of pongs owed"},
		{"answers late, but in time", at(3, func(_ *net.TCPConn, pong []byte) ([]byte, error) {
			time.Sleep(150 * time.Millisecond)
			return pong, nil
		}),
			counts{}, ""},
		{"sends a pong after our end", atEnd(func(*net.TCPConn) ([]byte, error) { return []byte("pong"), nil }),
			counts{wrong: 4}, "4 are surplus"},
		{"does not end", atEnd(func(*net.TCPConn) ([]byte, error) { time.Sleep(600 * time.Millisecond); return nil, nil }),
			counts{drops: 1}, "no end of the answers after ours within 300ms"},
		{"resets at the end", atEnd(func(c *net.TCPConn) ([]byte, error) { return nil, c.SetLinger(0) }),
			counts{drops: 1}, "connection reset by peer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tc.bend)
			l := start(t, load.Config{
				Addr:     s.addr,
				Interval: 40 * time.Millisecond,
				Patience: 300 * time.Millisecond,
				Groups:   []load.Group{{N: 3}},
			})
			time.Sleep(300 * time.Millisecond)
			r := l.Stop(t.Context())
			if got := (counts{r.Drops, r.Wrong, r.Refused}); got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
			if r.OK() != (tc.want == counts{}) {
				t.Errorf("OK is %v", r.OK())
			}
			if tc.says == "" {
				return
			}
			if len(r.Failures) != 1 || !strings.Contains(r.Failures[0].String(), tc.says) {
				t.Errorf("failures %v, want one that says %q", r.Failures, tc.says)
			}
		})
	}
}

func TestRefusedDials(t *testing.T) {
	t.Parallel()
	s := serve(t, honest)
	l := start(t, load.Config{Addr: s.addr, Interval: 10 * time.Millisecond, Failures: 3, Groups: []load.Group{{N: 4, Churn: true}}})
	_ = s.Close()
	eventually(t, "refused dials are counted", func() bool { return l.Live().Refused > 4 })
	r := l.Stop(t.Context())
	if len(r.Failures) != 3 {
		t.Errorf("%d failures are told in full, want the first 3", len(r.Failures))
	}
	if f := r.Failures[len(r.Failures)-1]; f.Kind != load.Refused || !strings.Contains(f.String(), "connection refused") {
		t.Errorf("%v", f)
	}
	if r.OK() || r.Wrong != 0 {
		t.Errorf("%+v", r.Stats)
	}
}

// TestSlowSeesFaults looks for one bad byte, one that is missing and one too many, deep in a pile.
func TestSlowSeesFaults(t *testing.T) {
	t.Parallel()
	const deep = 50_000
	for name, bad := range map[string]string{"differs": "pong!ong", "missing": "pon", "surplus": "pongp"} {
		for _, split := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := serve(t, func(_ *net.TCPConn, _, k int, pong []byte) ([]byte, error) {
					if k == deep && pong != nil {
						return []byte(bad), nil
					}
					return pong, nil
				})
				l := start(t, load.Config{
					Addr:     s.addr,
					Patience: 2 * time.Second,
					Groups:   []load.Group{{N: 1, Slow: true, Split: split, Pile: 400_000, Pause: 50 * time.Millisecond}},
				})
				eventually(t, "a fault is seen", func() bool { return l.Live().Open == 0 })
				if r := l.Stop(t.Context()); r.Wrong == 0 || r.Drops+r.Refused+r.Cut != 0 {
					t.Errorf("%+v", r.Stats)
				}
			})
		}
	}
}

// tight gives the server's end small buffers, so that a pile of a few MB blocks it and then the client.
func tight(c *net.TCPConn) { _ = errors.Join(c.SetReadBuffer(32<<10), c.SetWriteBuffer(32<<10)) }

// TestSlowDoesNotBlockItself piles up more than all buffers hold: the server stops reading until its answers are read.
func TestSlowDoesNotBlockItself(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *net.TCPConn, _, k int, pong []byte) ([]byte, error) {
		if k == 0 {
			tight(c)
		}
		return pong, nil
	})
	l := start(t, load.Config{Addr: s.addr, Groups: []load.Group{{N: 1, Slow: true, Pile: 8 << 20, Pause: 50 * time.Millisecond}}})
	eventually(t, "two piles are read", func() bool { return l.Live().Bytes > 16<<20 })
	if r := l.Stop(t.Context()); !r.OK() {
		t.Errorf("%+v %v", r.Stats, r.Failures)
	}
}

// TestSlowFaultFreesWriter sends wrong bytes and then reads no more, while the client has much left to write.
func TestSlowFaultFreesWriter(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := serve(t, func(c *net.TCPConn, _, k int, pong []byte) ([]byte, error) {
		switch k {
		case 0:
			tight(c)
		case 1000:
			_, _ = c.Write([]byte("pong wrong"))
			<-release
		}
		return pong, nil
	})
	t.Cleanup(func() { close(release) })
	l := start(t, load.Config{Addr: s.addr, Groups: []load.Group{{N: 1, Slow: true, Pile: 32 << 20, Pause: 50 * time.Millisecond}}})
	eventually(t, "the fault is seen", func() bool { return l.Live().Wrong > 0 })
	l.Stop(t.Context())
}

// TestLostPongIsNoticedWhileRunning does not leave it to Stop to find out.
func TestLostPongIsNoticedWhileRunning(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ *net.TCPConn, _, k int, pong []byte) ([]byte, error) {
		if k == 1 {
			return nil, nil
		}
		return pong, nil
	})
	l := start(t, load.Config{Addr: s.addr, Interval: 10 * time.Millisecond, Patience: 100 * time.Millisecond, Groups: []load.Group{{N: 1}, {N: 1, Split: true}}})
	eventually(t, "both are dropped", func() bool { return l.Live().Drops == 2 })
	l.Stop(t.Context())
}

// TestEndWithDebts answers each connection's first ping, and then only takes until the client has ended, as if all else had been lost.
func TestEndWithDebts(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ *net.TCPConn, _, k int, pong []byte) ([]byte, error) {
		if k == 0 {
			return pong, nil
		}
		return nil, nil
	})
	l := start(t, load.Config{
		Addr:     s.addr,
		Interval: time.Millisecond,
		Patience: 500 * time.Millisecond,
		Groups:   []load.Group{{N: 20, Churn: true, Pipeline: 64}},
	})
	time.Sleep(100 * time.Millisecond)
	r := l.Stop(t.Context())
	if r.Drops == 0 || r.Wrong+r.Refused+r.Cut != 0 {
		t.Errorf("%+v", r.Stats)
	}
	for _, f := range r.Failures {
		if strings.Contains(f.What, "the server closed the connection: EOF, ") && strings.Contains(f.What, "of pongs owed") {
			return
		}
	}
	t.Errorf("no connection was missed answers at its EOF: %v", r.Failures)
}

// TestSlowDrop ends a connection in the middle of a pile, when its writer is blocked and its reader looks away.
func TestSlowDrop(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ *net.TCPConn, _, k int, pong []byte) ([]byte, error) {
		if k == 10_000 {
			time.Sleep(50 * time.Millisecond)
			return nil, io.EOF
		}
		return pong, nil
	})
	l := start(t, load.Config{Addr: s.addr, Groups: []load.Group{{N: 2, Slow: true, Pile: 32 << 20, Pause: 100 * time.Millisecond}}})
	eventually(t, "drops are seen", func() bool { return l.Live().Drops == 2 })
	l.Stop(t.Context())
}

// TestLatencyCountsFromWhenDue stops the server's answers for 300 ms. A client that counts from when it could send would have one bad ping of
// 300 ms; fifteen were due in that time.
func TestLatencyCountsFromWhenDue(t *testing.T) {
	t.Parallel()
	var standstill atomic.Bool
	s := serve(t, func(_ *net.TCPConn, _, _ int, pong []byte) ([]byte, error) {
		if standstill.CompareAndSwap(true, false) {
			time.Sleep(300 * time.Millisecond)
		}
		return pong, nil
	})
	l := start(t, load.Config{Addr: s.addr, Interval: 20 * time.Millisecond, Groups: []load.Group{{N: 1}}})
	time.Sleep(1200 * time.Millisecond)
	standstill.Store(true)
	time.Sleep(500 * time.Millisecond)
	r := l.Stop(t.Context())
	if !r.OK() {
		t.Fatalf("%v", r.Failures)
	}
	late := int64(0)
	for _, b := range r.Latency.Distribution() {
		if b.From > int64(50*time.Millisecond) {
			late += b.Count
		}
	}
	if late < 10 || late > 20 {
		t.Errorf("%d pings felt more than 50 ms, want 12, or a few more on a busy machine", late)
	}
	if p99 := time.Duration(r.Worst.Latency.ValueAtQuantile(99)); p99 < 250*time.Millisecond || p99 > 500*time.Millisecond {
		t.Errorf("worst second's p99 is %v", p99)
	}
	if r.Worst.At < 900*time.Millisecond || r.Worst.At > 1500*time.Millisecond {
		t.Errorf("worst second began at %v", r.Worst.At)
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ *net.TCPConn, n, _ int, pong []byte) ([]byte, error) {
		if n == 30 {
			return nil, io.EOF
		}
		return pong, nil
	})
	closed := serve(t, honest)
	_ = closed.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name string
		ctx  context.Context
		cfg  load.Config
		is   error
		says string
	}{
		{name: "nobody listens", cfg: load.Config{Addr: closed.addr, Groups: []load.Group{{N: 5}}}, is: syscall.ECONNREFUSED, says: closed.addr},
		{name: "one gets no answer", cfg: load.Config{Addr: s.addr, Groups: []load.Group{{N: 100}}}, is: io.EOF},
		{name: "interrupted", ctx: ended, cfg: load.Config{Addr: s.addr, Groups: []load.Group{{N: 5}}}, is: context.Canceled},
		{name: "bad address", cfg: load.Config{Addr: "nonsense", Groups: []load.Group{{N: 5}}}, says: `address "nonsense"`},
		{name: "nobody", cfg: load.Config{Addr: s.addr}, says: "no connections asked for"},
		{name: "too many", cfg: load.Config{Addr: s.addr, Groups: []load.Group{{N: 1 << 30}}}, says: `raise "ulimit -n"`},
		{name: "odd pile", cfg: load.Config{Addr: s.addr, Groups: []load.Group{{N: 1, Pile: 5}}}, says: "multiple of 4"},
		{name: "deep pipeline", cfg: load.Config{Addr: s.addr, Groups: []load.Group{{N: 1, Pipeline: 65}}}, says: "choose 1 to 64"},
		{name: "negative", cfg: load.Config{Addr: s.addr, Groups: []load.Group{{N: 1, Interval: -1}}}, says: "negative"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := tc.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			l, err := load.Start(ctx, tc.cfg)
			if err == nil {
				l.Stop(ctx)
				t.Fatal("started")
			}
			if tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %q, want %v that says %q", err, tc.is, tc.says)
			}
		})
	}
}

// TestStopOutOfTime wants a connection that could not be checked to its end to spoil the verdict.
func TestStopOutOfTime(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := serve(t, func(_ *net.TCPConn, n, k int, pong []byte) ([]byte, error) {
		if n == 0 && k > 0 || n == 1 && pong == nil {
			<-release
		}
		return pong, nil
	})
	l := start(t, load.Config{Addr: s.addr, Interval: 10 * time.Millisecond, Groups: []load.Group{
		{N: 3}, {N: 2, Slow: true, Pile: 64 << 20, Pause: 50 * time.Millisecond},
	}})
	time.Sleep(100 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	r := l.Stop(ctx)
	close(release)
	if took := time.Since(began); took > time.Second {
		t.Errorf("Stop took %v", took)
	}
	if r.OK() || r.Cut < 2 || r.Drops+r.Wrong+r.Refused != 0 {
		t.Errorf("%+v %v", r.Stats, r.Failures)
	}
	if again := l.Stop(t.Context()); again.Stats != r.Stats {
		t.Errorf("second Stop reports %+v, first %+v", again.Stats, r.Stats)
	}
}

// TestStopDoesNotWaitForPings stops a load whose next pings are due in an hour.
func TestStopDoesNotWaitForPings(t *testing.T) {
	t.Parallel()
	s := serve(t, honest)
	l := start(t, load.Config{Addr: s.addr, Interval: time.Hour, Groups: []load.Group{{N: 20}, {N: 20, Split: true}, {N: 5, Slow: true, Pause: time.Hour}}})
	began := time.Now()
	r := l.Stop(t.Context())
	if took := time.Since(began); took > time.Second || !r.OK() {
		t.Errorf("Stop took %v: %+v", took, r.Stats)
	}
}
