package tests

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"baton/internal/load"
	"baton/journal"

	"golang.org/x/sys/unix"
)

// What the tests that kill have in common: a crowd that tells the harmless end of a connection from one that is not, and the books in which
// every lost session has to be named.

// A herd is connections of all kinds to one server. What it loses is told, and not a failure by itself; a wrong byte always is.
type herd struct {
	t    testing.TB
	idle []*idler
	load *load.Load
	half []*halfCloser
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
		h.load, err = load.Start(t.Context(), load.Config{Addr: addr, Groups: n.groups, Interval: 50 * time.Millisecond, Patience: patience})
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
	if h.load != nil && h.load.Live().Refused > 0 {
		h.t.Errorf("%d dials were refused", h.load.Live().Refused)
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
		case load.Wrong, load.Cut:
			h.t.Error(f)
		}
	}
	return lost, drops + r.Drops
}

// books is what the journals of all runs say of sessions.
type books struct {
	peers map[journal.ID]netip.AddrPort
	named map[netip.AddrPort]string // closed, by whoever served it or found it lost, with the reason
	logs  []journal.RunLog
}

func (s *space) books() *books {
	b := &books{peers: map[journal.ID]netip.AddrPort{}, named: map[netip.AddrPort]string{}, logs: s.journals()}
	for _, l := range b.logs {
		for _, r := range l.Sessions {
			if r.Peer.IsValid() {
				b.peers[r.ID] = r.Peer
			}
		}
		for _, r := range l.Closed {
			if r.Peer.IsValid() {
				b.peers[r.ID] = r.Peer
			}
		}
	}
	for _, l := range b.logs {
		for _, r := range l.Closed {
			b.name(r.ID, r.Reason)
		}
		for _, e := range l.Events {
			switch d := e.Data.(type) {
			case journal.Closed:
				b.name(d.Session, d.Reason)
			case journal.Verdict:
				if strings.HasPrefix(d.Verdict, "lost with") {
					for _, id := range d.Sessions {
						b.name(journal.ID(id), d.Verdict)
					}
				}
			}
		}
	}
	return b
}

// name notes why a session ended. Those that their clients ended are not asked for.
func (b *books) name(id journal.ID, reason string) {
	if reason != "end of stream" && !strings.HasPrefix(reason, "stayed with") {
		b.named[b.peers[id]] = reason
	}
}

// explain says of each loss why, and fails the test where no journal does. Who has just survived another run may still be reading its file.
func (s *space) explain(lost []loss) *books {
	s.t.Helper()
	var b *books
	var unnamed []loss
	for range 40 {
		b = s.books()
		if unnamed = b.unnamed(lost); len(unnamed) == 0 {
			return b
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, l := range unnamed {
		s.t.Errorf("lost, and nobody says why: %s connection %s, open for %v: %s\n%s", l.kind, l.local, l.open, l.what, b.about(l.peer()))
	}
	return b
}

// unnamed leaves out connections that were accepted in the last moment of a run, and were not in its file yet: nobody else knew them.
func (b *books) unnamed(lost []loss) []loss {
	return slices.DeleteFunc(slices.Clone(lost), func(l loss) bool {
		_, named := b.named[l.peer()]
		return named || l.open < 300*time.Millisecond || l.churn && l.open < time.Second
	})
}

// about is all that the journals say of a client's session.
func (b *books) about(peer netip.AddrPort) string {
	var text strings.Builder
	for _, l := range b.logs {
		fmt.Fprintf(&text, "run %d (live %v, sealed %v, last event %d):\n", l.Run.Number, l.Live, l.Sealed, l.Last().Seq)
		for _, r := range l.Sessions {
			if r.Peer == peer {
				fmt.Fprintf(&text, "  open: %+v\n", r)
			}
		}
		for _, r := range l.Closed {
			if r.Peer == peer {
				fmt.Fprintf(&text, "  closed: %+v\n", r)
			}
		}
		for _, e := range l.Events {
			fmt.Fprintf(&text, "  %d %v %+v\n", e.Seq, time.Duration(e.Mono), e.Data)
		}
	}
	return text.String()
}

// checkOneServes fails the test if two runs served at the same time, as far as their journals know. (Their clocks are the same to some µs.)
func (b *books) checkOneServes(t testing.TB) {
	t.Helper()
	type term struct {
		run        int
		begin, end int64
	}
	const now = 1<<63 - 1
	died := map[int]int64{}
	for _, l := range b.logs {
		for _, e := range l.Events {
			if d, ok := e.Data.(journal.PeerDied); ok && died[d.Run] == 0 {
				died[d.Run] = e.Mono
			}
		}
	}
	var terms []term
	for _, l := range b.logs {
		at := -1
		for _, e := range l.Events {
			m, ok := e.Data.(journal.Move)
			if !ok {
				continue
			}
			serves := m.To == "Serving" || m.To == "Preparing" || m.To == "Transferring"
			switch {
			case serves && at < 0:
				at = len(terms)
				terms = append(terms, term{l.Run.Number, e.Mono, now})
			case !serves && at >= 0:
				terms[at].end = e.Mono
				at = -1
			}
		}
		if at >= 0 && !l.Live {
			if terms[at].end = l.Last().Mono; died[l.Run.Number] > 0 {
				terms[at].end = died[l.Run.Number]
			}
		}
	}
	slices.SortFunc(terms, func(a, b term) int { return int(max(-1, min(1, a.begin-b.begin))) })
	for i := 1; i < len(terms); i++ {
		if terms[i].begin < terms[i-1].end-int64(100*time.Microsecond) && terms[i].run != terms[i-1].run {
			t.Errorf("run %d began to serve %v before run %d had ceased to", terms[i].run, time.Duration(terms[i-1].end-terms[i].begin), terms[i-1].run)
		}
	}
}

// awaitSurvivor waits until one process is left, and serves, and returns its pid; 0 if none is left.
func (s *space) awaitSurvivor() (pid int) {
	s.t.Helper()
	waitFor(s.t, patience, "one process is left, and serves", func() bool {
		left := processesOf(s.base)
		if len(left) == 0 {
			pid = 0
			return true
		}
		if len(left) > 1 {
			return false
		}
		st, err := s.tryStatus()
		pid = st.PID
		return err == nil && st.State == "Serving" && st.PID == left[0] && st.Predecessor == 0
	})
	if pid != 0 && s.pid() != pid {
		s.t.Errorf("server.pid says %d, and %d serves", s.pid(), pid)
	}
	return pid
}

// startAfresh starts a server where none is left. The dead are gone only when the lock is: their files are closed after they are seen to end.
func (s *space) startAfresh(args ...string) {
	s.t.Helper()
	waitFor(s.t, patience, "the workspace's lock is free", func() bool {
		f, err := os.Open(s.path("lock"))
		if err != nil {
			s.t.Fatal(err)
		}
		defer f.Close()
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
	})
	s.startAs(programs.steps, args...)
}

// checkSockets fails the test if there are sockets of others than the run that serves.
func (s *space) checkSockets(run int) {
	s.t.Helper()
	want := []string{fmt.Sprintf("%06d.control", run), fmt.Sprintf("%06d.sock", run)}
	var got []string
	for range 100 {
		got = nil
		entries, _ := os.ReadDir(s.path("run"))
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if slices.Equal(got, want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Errorf("in run/: %v, want %v", got, want)
}

// fired returns the pid of the process that has come to its step; 0 = none yet.
func fired(file string) int {
	b, _ := os.ReadFile(file)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// gone waits until a process of the space has certainly ended.
func (s *space) gone(pid int) {
	s.t.Helper()
	waitFor(s.t, patience, "the process that is hit has ended", func() bool { return !slices.Contains(processesOf(s.base), pid) })
}

// resume continues a stopped process, if it is still there.
func (s *space) resume(pid int) {
	if slices.Contains(processesOf(s.base), pid) {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}

// lanes runs tests side by side, more of them than there are processors, for they mostly wait.
func lanes[T any](t *testing.T, n int, cases []T, name func(T) string, test func(*testing.T, T)) {
	t.Helper()
	next := make(chan T)
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			for c := range next {
				t.Run(name(c), func(t *testing.T) { test(t, c) })
			}
		})
	}
	for _, c := range cases {
		next <- c
	}
	close(next)
	running.Wait()
}

// abandon ends the herd without looking at what it lost, but for wrong bytes.
func (h *herd) abandon() {
	h.t.Helper()
	for _, c := range h.half {
		close(c.read)
		<-c.ended
	}
	if r := h.load.Stop(h.t.Context()); r.Wrong > 0 {
		h.t.Errorf("%d wrong bytes", r.Wrong)
	}
}
