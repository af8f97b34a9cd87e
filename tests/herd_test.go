package tests

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/internal/load"

	"golang.org/x/sys/unix"
)

// A crowd for the tests that kill. It tells the harmless end of a connection from one that is not.

// A herd is connections of all kinds to one server. What it loses is told, and not a failure by itself; a wrong byte always is.
type herd struct {
	t    testing.TB
	idle []*idler
	load *load.Load
	half []*halfCloser

	refusals []load.Failure
	reset    int64 // dials of connections that were accepted, and lost before the client had a look
}

// A census says how many of each kind are in a herd.
type census struct {
	idle, half, halfClosed int
	groups                 []load.Group
}

func newHerd(t testing.TB, addr string, n census) *herd {
	t.Helper()
	h := &herd{t: t}
	for i := range n.idle + n.half {
		c := &idler{client: dial(t, addr)}
		c.ping(1)
		if i >= n.idle {
			c.send("pi")
			c.owes = "ng"
		}
		h.idle = append(h.idle, c)
	}
	for i := range n.halfClosed {
		h.half = append(h.half, newHalfCloser(t, addr, halfClosedBytes[i%len(halfClosedBytes)]))
	}
	if len(n.groups) > 0 {
		var err error
		h.load, err = load.Start(t.Context(), load.Config{
			Addr: addr, Groups: n.groups, Interval: 50 * time.Millisecond, Patience: patience, Failures: 1 << 16, // each has to be explained
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.load.Stop(t.Context()) })
	}
	return h
}

// An idler sends nothing, but for half a frame perhaps, until it is asked whether its connection stands.
type idler struct {
	*client
	owes string // what is missing of its frame
	lost error
}

// stands completes the frame, or sends one, and takes the answer; half of those with half a frame leave half a frame behind again.
func (c *idler) stands() bool {
	if c.lost != nil {
		return false
	}
	missing := c.owes
	if missing == "" {
		missing = "ping"
	}
	tail := ""
	if c.owes != "" {
		tail, c.owes = "p", "ing"
	}
	c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte(missing + tail)); err != nil {
		c.lost = err
		return false
	}
	c.lost = expect(c.TCPConn, 1)
	if c.lost != nil && strings.Contains(c.lost.Error(), "wrong bytes") {
		c.t.Errorf("idle connection %v: %v", c.LocalAddr(), c.lost)
	}
	return c.lost == nil
}

// idleLost asks all of the idle whether they stand, and returns those that do not. One that is left hanging is a failure.
func (h *herd) idleLost() (lost []*idler) {
	h.t.Helper()
	var asking sync.WaitGroup
	for _, c := range h.idle {
		asking.Go(func() { c.stands() })
	}
	asking.Wait()
	for _, c := range h.idle {
		if c.lost == nil {
			continue
		}
		lost = append(lost, c)
		if errors.Is(c.lost, os.ErrDeadlineExceeded) {
			h.t.Errorf("left hanging: idle connection %v: %v", c.LocalAddr(), c.lost)
		}
	}
	return lost
}

// A halfCloser asks for more than fits into the buffers, ends its side, and reads nothing until it is told to.
type halfCloser struct {
	*client
	read  chan struct{}
	lost  error
	ended chan struct{}
}

// halfClosedBytes are what is too much for the send buffer (4 MB, tcp_wmem), so that output is left with the server: the first has its FIN
// read nevertheless, the second one's FIN waits behind input that is not read, for too much output is waiting.
var halfClosedBytes = []int{4_260_000, 6 << 20}

func newHalfCloser(t testing.TB, addr string, size int) *halfCloser {
	t.Helper()
	h := &halfCloser{client: dial(t, addr), read: make(chan struct{}), ended: make(chan struct{})}
	h.SetReadBuffer(16 << 10)
	written := make(chan error, 1)
	go func() {
		_, err := h.Write([]byte(repeat("ping", size/4)))
		h.CloseWrite()
		written <- err
	}()
	go func() {
		defer close(h.ended)
		<-h.read
		if h.lost = expect(h.TCPConn, size/4); h.lost == nil {
			h.lost = expectEnd(h.TCPConn)
		}
		if h.lost != nil {
			if strings.Contains(h.lost.Error(), "wrong bytes") {
				t.Errorf("half-closed connection %v: %v", h.LocalAddr(), h.lost)
			}
			h.Close() // frees the writer
		}
		<-written
	}()
	return h
}

// A loss is a connection that ended though its client had not ended it.
type loss struct {
	local string
	kind  string
	churn bool
	open  time.Duration // for how long it was
	what  string
}

func (l loss) peer() netip.AddrPort { return netip.MustParseAddrPort(l.local) }

// finish is ebb for a herd whose server was always there: dials must not fail.
func (h *herd) finish() (lost []loss, drops int64) {
	h.t.Helper()
	lost, drops = h.ebb()
	if h.load != nil && h.load.Live().Refused > h.reset {
		h.t.Errorf("%d dials were refused: %v", h.load.Live().Refused-h.reset, h.refusals)
	}
	return lost, drops
}

// ebb has everybody but the idle read to the end, and tells what was lost. Wrong bytes and what is left hanging are failures.
func (h *herd) ebb() (lost []loss, drops int64) {
	h.t.Helper()
	for _, c := range h.half {
		close(c.read)
	}
	for _, c := range h.half {
		if <-c.ended; c.lost != nil {
			lost = append(lost, loss{local: c.LocalAddr().String(), kind: "half-closed", what: c.lost.Error(), open: time.Hour})
			drops++
		}
	}
	for _, c := range h.idle {
		if c.lost != nil {
			lost = append(lost, loss{local: c.LocalAddr().String(), kind: "idle", what: c.lost.Error(), open: time.Hour})
			drops++
		}
	}
	if h.load == nil {
		return lost, drops
	}
	r := h.load.Stop(h.t.Context())
	if r.Wrong > 0 || r.Cut > 0 {
		h.t.Errorf("%d wrong bytes, %d cut, of %d connections", r.Wrong, r.Cut, r.Dialled)
	}
	for _, f := range r.Failures {
		switch f.Kind {
		case load.Drop:
			if strings.Contains(f.What, "no pong") || strings.Contains(f.What, "within") {
				h.t.Errorf("left hanging: %v", f)
			}
			lost = append(lost, loss{local: f.Local, kind: f.Behaviour, open: f.Open, churn: strings.Contains(f.Behaviour, "churn"), what: f.What})
		case load.Refused:
			if strings.Contains(f.What, unix.ECONNRESET.Error()) {
				h.reset++
			} else {
				h.refusals = append(h.refusals, f)
			}
		case load.Wrong, load.Cut:
			h.t.Error(f)
		}
	}
	return lost, drops + r.Drops
}

// abandon ends the herd without looking at what it lost, but for wrong bytes.
func (h *herd) abandon() {
	h.t.Helper()
	for _, c := range h.half {
		close(c.read)
		<-c.ended
	}
	if h.load == nil {
		return
	}
	if r := h.load.Stop(h.t.Context()); r.Wrong > 0 {
		h.t.Errorf("%d wrong bytes", r.Wrong)
	}
}

// standing is how many idle connections are not lost.
func (h *herd) standing() (n int) {
	for _, c := range h.idle {
		if c.lost == nil {
			n++
		}
	}
	return n
}

func (h *herd) close() {
	for _, c := range h.idle {
		c.Close()
	}
}

// idlers are connections that have had an answer and say nothing; every third has sent half a frame since.
func idlers(t *testing.T, addr string, n int) []*idler {
	t.Helper()
	return newHerd(t, addr, census{idle: n - n/3, half: n / 3}).idle
}

// checkIdlers fails the test if one of them is lost.
func checkIdlers(t *testing.T, all []*idler) {
	t.Helper()
	if lost := (&herd{t: t, idle: all}).idleLost(); len(lost) > 0 {
		t.Fatalf("%d of %d idle connections are lost, the first %v: %v", len(lost), len(all), lost[0].LocalAddr(), lost[0].lost)
	}
}
