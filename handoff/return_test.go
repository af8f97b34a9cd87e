package handoff_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/conn"
	"baton/handoff"
	"baton/handoff/protocol"
)

// moody is counting whose Load fails as long as refuse says so.
type moody struct {
	counting
	refuse func() bool
}

func (m *moody) Load(v int, b []byte) error {
	if m.refuse() {
		return errors.New("not in the mood")
	}
	return m.counting.Load(v, b)
}

// refusing has a run refuse each session for which refuse returns true.
func refusing(refuse func() bool) func(*handoff.Config) {
	return func(c *handoff.Config) {
		p := countingProtocol(1)
		p.Blocking = false
		p.New = func() conn.Handler { return &moody{refuse: refuse} }
		c.Protocols = []conn.Protocol{p}
		c.Timeouts.Probation = time.Minute
	}
}

func never() bool { return false }

// A caller sends one byte after the other and checks that each is answered, with the next number.
type caller struct {
	c    net.Conn
	stop chan struct{}
	done chan error
	n    int
}

func call(t *testing.T, r handoff.Ready) *caller {
	c := &caller{c: dial(t, r), stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { c.done <- c.run() }()
	return c
}

func (c *caller) run() error {
	lines := bufio.NewReader(c.c)
	for {
		select {
		case <-c.stop:
			return nil
		case <-time.After(time.Millisecond):
		}
		c.n++
		if _, err := io.WriteString(c.c, "x"); err != nil {
			return err
		}
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("%d\n", c.n) {
			return fmt.Errorf("answer %d is %q, %v", c.n, line, err)
		}
	}
}

// hangUp ends the calls, which must have gone well.
func hangUp(t *testing.T, callers []*caller) {
	t.Helper()
	for _, c := range callers {
		close(c.stop)
	}
	for i, c := range callers {
		if err := <-c.done; err != nil {
			t.Errorf("client %d: %v", i, err)
		}
		c.c.Close()
	}
}

func wantLast(t *testing.T, dir string, result protocol.Result, reason string) {
	t.Helper()
	var h *handoff.Handoff
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		st, err := handoff.NewClient(dir).Status(t.Context())
		if err != nil {
			continue
		}
		if h = st.LastHandoff; h != nil && h.Result == result && strings.Contains(h.Reason, reason) && st.State == "Serving" {
			return
		}
	}
	t.Errorf("last handoff: %+v; want %s: %s", h, result, reason)
}

// A set of sessions under traffic goes there and back ten times, and its clients notice nothing. The successor refuses a session of a late
// batch, twice, so that it has served hundreds by then.
func TestThereAndBackTenTimes(t *testing.T) {
	dir := workspace(t)
	a := start(t, dir, refusing(never))
	r := a.serving()
	var callers []*caller
	for range 300 {
		callers = append(callers, call(t, r))
	}
	for round := range 10 {
		var loaded atomic.Int64
		b := start(t, dir, refusing(func() bool { return loaded.Add(1) > 200 }))
		if err := b.gone(); !errors.Is(err, handoff.ErrGaveUp) {
			t.Fatalf("round %d: the successor ends with %v", round, err)
		}
		wantLast(t, dir, protocol.ResultRolledBack, "refused session")
		callers = append(callers, call(t, r)) // still accepts, and the newcomer takes part in the next round
	}
	c := start(t, dir, refusing(never))
	if r := c.serving(); r.Sessions < 300 {
		t.Errorf("the next upgrade moved %d sessions", r.Sessions)
	}
	hangUp(t, callers)
	c.stop()
	if err := errors.Join(c.gone(), a.gone()); err != nil {
		t.Error(err)
	}
	agrees(t, dir)
}

// A successor that serves already, and has accepted sessions of its own, gives back all of them when it has to: here it refuses a straggler
// twice.
func TestReturnInProbation(t *testing.T) {
	dir := workspace(t)
	busy := countingProtocol(1)
	withBusy := func(refuse func() bool) func(*handoff.Config) {
		return func(c *handoff.Config) {
			refusing(refuse)(c)
			busy.New = func() conn.Handler { return &moody{refuse: refuse} }
			c.Protocols = []conn.Protocol{busy}
		}
	}
	a := start(t, dir, withBusy(never))
	r := a.serving()
	straggler := dial(t, r)
	exchange(t, straggler, "x", "1\n")
	var callers []*caller
	for range 20 {
		callers = append(callers, call(t, r))
	}
	var angry atomic.Bool
	io.WriteString(straggler, "w")
	time.Sleep(20 * time.Millisecond)
	b := start(t, dir, withBusy(angry.Load))
	b.serving()
	angry.Store(true)
	for range 20 {
		callers = append(callers, call(t, r)) // accepted by the successor
	}
	if err := b.gone(); !errors.Is(err, handoff.ErrGaveUp) {
		t.Errorf("the successor ends with %v", err)
	}
	wantLast(t, dir, protocol.ResultRolledBack, "not in the mood")
	exchange(t, straggler, "x", "2\n3\n")
	st, err := handoff.NewClient(dir).Status(t.Context())
	if err != nil || st.Run != 1 || st.Sessions != 41 {
		t.Errorf("afterwards: %+v, %v; want run 1 with 41 sessions", st, err)
	}
	hangUp(t, callers)
	agrees(t, dir)
	a.stop()
	if err := a.gone(); err != nil {
		t.Error(err)
	}
}

// A predecessor that is asked to stop after some gives gets everything back, and stops then.
func TestStopOfPredecessorReturns(t *testing.T) {
	dir := workspace(t)
	a := start(t, dir, refusing(never))
	r := a.serving()
	var callers []*caller
	for range 100 {
		callers = append(callers, call(t, r))
	}
	var once sync.Once
	var loaded atomic.Int64
	b := start(t, dir, refusing(func() bool {
		if loaded.Add(1) > 70 {
			once.Do(func() { a.stop(); time.Sleep(50 * time.Millisecond) })
		}
		return false
	}))
	errB := b.gone()
	if err := a.gone(); err != nil {
		t.Errorf("predecessor: %v", err)
	}
	if errB != nil && !errors.Is(errB, handoff.ErrGaveUp) {
		t.Errorf("successor: %v", errB)
	}
	for _, c := range callers {
		<-c.done // told by the end of the stream
		c.c.Close()
	}
	agrees(t, dir)
}

// The replay tells the way back as what it was.
func TestReplayOfReturn(t *testing.T) {
	dir := workspace(t)
	a := start(t, dir, refusing(never))
	r := a.serving()
	var callers []*caller
	for range 70 {
		callers = append(callers, call(t, r))
	}
	var loaded atomic.Int64
	start(t, dir, refusing(func() bool { return loaded.Add(1) > 66 })).gone()
	wantLast(t, dir, protocol.ResultRolledBack, "refused session")
	hangUp(t, callers)
	tl, err := handoff.Replay(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text := tl.Text()
	for _, want := range []string{`rolled back`, `everything is back: \d+ sessions`, `freezes and offers \d+ back`, `takes \d+ back`, `serves \d+ back; pause`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the replay does not say %q:\n%s", want, text)
		}
	}
	a.stop()
	a.gone()
	if links, _ := os.Readlink(filepath.Join(dir, "conn.sock")); links != "" {
		t.Errorf("conn.sock is left: %s", links)
	}
}
