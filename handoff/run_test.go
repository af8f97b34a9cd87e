package handoff_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/conn"
	"baton/handoff"
	"baton/handoff/protocol"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// These tests run predecessor and successor in one process, as a takeover: everything is real but the processes, and the race detector
// sees both sides. What needs processes is in tests/.

// counting answers each byte: with its number, which is state; 'w' only after a while, on a goroutine that blocks.
type counting struct{ n int }

var slowFor = 300 * time.Millisecond

func (h *counting) Serve(c *conn.Conn) error {
	b, err := c.Peek(1)
	if err != nil {
		return err
	}
	if b[0] == 'w' {
		time.Sleep(slowFor)
	}
	h.n++
	c.Discard(1)
	_, err = fmt.Fprintf(c, "%d\n", h.n)
	return err
}

func (h *counting) Save(int) ([]byte, error) { return fmt.Append(nil, h.n), nil }

func (h *counting) Load(_ int, b []byte) error {
	_, err := fmt.Sscan(string(b), &h.n)
	return err
}

func countingProtocol(versions ...int) conn.Protocol {
	return conn.Protocol{
		Name: "counting", Blocking: true, New: func() conn.Handler { return &counting{} }, Reads: versions, Writes: versions,
	}
}

// A server is a run in this process.
type server struct {
	t     *testing.T
	dir   string
	ready chan handoff.Ready
	done  chan error
	stop  context.CancelFunc
}

// start starts a run, as the successor of the one in dir, if there is one.
func start(t *testing.T, dir string, change func(*handoff.Config)) *server {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s := &server{t: t, dir: dir, ready: make(chan handoff.Ready, 1), done: make(chan error, 1), stop: stop}
	cfg := handoff.Config{
		Workspace: dir, Listen: []string{"counting://127.0.0.1:0"}, Protocols: []conn.Protocol{countingProtocol(1)}, Version: "test",
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, Takeover: true, Ready: func(r handoff.Ready) { s.ready <- r },
		Timeouts: handoff.Timeouts{Probation: 200 * time.Millisecond, Drain: 5 * time.Second},
	}
	if change != nil {
		change(&cfg)
	}
	go func() { s.done <- handoff.Run(ctx, cfg) }()
	t.Cleanup(stop)
	return s
}

// serving waits until the run serves.
func (s *server) serving() handoff.Ready {
	s.t.Helper()
	select {
	case r := <-s.ready:
		return r
	case err := <-s.done:
		s.t.Fatalf("the run ended: %v\n%s", err, s.log())
	case <-time.After(10 * time.Second):
		s.t.Fatalf("the run does not serve\n%s", s.log())
	}
	panic("unreachable")
}

// gone waits until the run has ended.
func (s *server) gone() error {
	s.t.Helper()
	select {
	case err := <-s.done:
		return err
	case <-time.After(10 * time.Second):
		s.t.Fatalf("the run does not end\n%s", s.log())
	}
	panic("unreachable")
}

func (s *server) log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "server.log"))
	return string(b)
}

// workspace is a directory with a short name, since sockets go into it.
func workspace(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(dir, "server.log"))
			t.Logf("server.log:\n%s", b)
		}
		os.RemoveAll(dir)
	})
	return dir
}

func dial(t *testing.T, r handoff.Ready) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.Listeners[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func exchange(t *testing.T, c net.Conn, send, want string) {
	t.Helper()
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("sent %q: got %q, %v; want %q", send, got[:n], err, want)
	}
}

func TestTakeoverMovesState(t *testing.T) {
	dir := workspace(t)
	a := start(t, dir, nil)
	r := a.serving()
	c := dial(t, r)
	exchange(t, c, "xx", "1\n2\n")
	b := start(t, dir, nil)
	if r := b.serving(); r.Run != 2 || r.Predecessor != 1 || r.Sessions != 1 {
		t.Errorf("ready: %+v", r)
	}
	exchange(t, c, "x", "3\n")
	if err := a.gone(); err != nil {
		t.Errorf("predecessor: %v", err)
	}
	exchange(t, c, "x", "4\n")
	status, err := handoff.NewClient(dir).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := status.LastHandoff
	if status.State != "Serving" || status.Run != 2 || status.Sessions != 1 || h == nil || h.Result != protocol.ResultDone || h.Moved != 1 {
		t.Errorf("status: %+v, %+v", status, h)
	}
	b.stop()
	if err := b.gone(); err != nil {
		t.Errorf("successor: %v", err)
	}
	agrees(t, dir)
}

// agrees replays the journals of a workspace and has no complaints.
func agrees(t *testing.T, dir string) {
	t.Helper()
	tl, err := handoff.Replay(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tl.Problems {
		t.Errorf("replay: %s", p)
	}
	if t.Failed() {
		t.Log(tl.Text())
	}
}

// Upgrades follow each other without a pause, each asked of a run whose own predecessor is still there.
func TestBackToBack(t *testing.T) {
	dir := workspace(t)
	last := start(t, dir, func(c *handoff.Config) { c.Timeouts.Probation = time.Minute })
	c := dial(t, last.serving())
	for i := range 10 {
		next := start(t, dir, func(c *handoff.Config) { c.Timeouts.Probation = time.Minute })
		next.serving()
		exchange(t, c, "x", fmt.Sprintf("%d\n", i+1))
		defer func(s *server) {
			if err := s.gone(); err != nil {
				t.Error(err)
			}
		}(last)
		last = next
	}
	last.stop()
	if err := last.gone(); err != nil {
		t.Error(err)
	}
	agrees(t, dir)
}

// A session whose handler is at work follows when it has finished.
func TestStraggler(t *testing.T) {
	dir := workspace(t)
	a := start(t, dir, nil)
	c := dial(t, a.serving())
	idle := dial(t, handoff.Ready{Listeners: []handoff.ListenerStatus{{Addr: c.RemoteAddr().String()}}})
	exchange(t, idle, "x", "1\n")
	io.WriteString(c, "xw")
	exchange(t, c, "", "1\n")
	b := start(t, dir, nil)
	b.serving()
	exchange(t, idle, "x", "2\n")
	status, err := handoff.NewClient(dir).Status(t.Context())
	if err != nil || status.Run != 2 || status.Sessions != 1 || status.LastHandoff == nil || status.LastHandoff.Stragglers != 1 {
		t.Errorf("status while it is busy: %+v %+v, %v", status, status.LastHandoff, err)
	}
	exchange(t, c, "x", "2\n3\n")
	if err := a.gone(); err != nil {
		t.Error(err)
	}
	exchange(t, c, "x", "4\n")
	if status, err = handoff.NewClient(dir).Status(t.Context()); err != nil || status.Sessions != 2 || status.LastHandoff.Moved != 2 {
		t.Errorf("status after it has followed: %+v %+v, %v", status, status.LastHandoff, err)
	}
	b.stop()
	b.gone()
	agrees(t, dir)
}

// A straggler that does not come to rest is closed, and named.
func TestDrainTimeout(t *testing.T) {
	defer func(d time.Duration) { slowFor = d }(slowFor)
	slowFor = 1500 * time.Millisecond
	dir := workspace(t)
	a := start(t, dir, func(c *handoff.Config) { c.Timeouts.Drain = 200 * time.Millisecond })
	c := dial(t, a.serving())
	io.WriteString(c, "w")
	time.Sleep(50 * time.Millisecond)
	b := start(t, dir, nil)
	b.serving()
	begin := time.Now()
	got, err := io.ReadAll(c)
	if took := time.Since(begin); took > 3*time.Second || len(got) > 2 || err != nil {
		t.Errorf("got %q, %v after %v; want the end of the stream", got, err, took)
	}
	c.Close()
	if err := a.gone(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(a.log(), "drain timeout") {
		t.Error("the log does not name it")
	}
	b.stop()
	b.gone()
	agrees(t, dir)
}

// An upgrade asked of a run while its predecessor still has a straggler waits for it, and loses nobody.
func TestUpgradeWhileStragglerIsLeft(t *testing.T) {
	dir := workspace(t)
	a := start(t, dir, nil)
	c := dial(t, a.serving())
	io.WriteString(c, "w")
	time.Sleep(50 * time.Millisecond)
	b := start(t, dir, nil)
	b.serving()
	d := start(t, dir, nil)
	d.serving()
	exchange(t, c, "x", "1\n2\n")
	if err := errors.Join(a.gone(), b.gone()); err != nil {
		t.Error(err)
	}
	d.stop()
	d.gone()
	agrees(t, dir)
}

// A successor that cannot read the sessions' states, or does not know their protocol, is refused before anything moves.
func TestUnfitSuccessor(t *testing.T) {
	other := conn.Protocol{Name: "other", New: func() conn.Handler { return &counting{} }}
	for name, change := range map[string]func(*handoff.Config){
		"state of protocol": func(c *handoff.Config) { c.Protocols = []conn.Protocol{countingProtocol(2)} },
		"in use and not known": func(c *handoff.Config) {
			c.Protocols = []conn.Protocol{other}
			c.Listen = []string{"other://127.0.0.1:0"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := workspace(t)
			a := start(t, dir, nil)
			c := dial(t, a.serving())
			exchange(t, c, "x", "1\n")
			err := start(t, dir, change).gone()
			if !errors.Is(err, handoff.ErrGaveUp) || !strings.Contains(err.Error(), name) {
				t.Errorf("successor: %v", err)
			}
			exchange(t, c, "x", "2\n")
			b := start(t, dir, nil)
			b.serving()
			exchange(t, c, "x", "3\n")
			b.stop()
			b.gone()
			a.gone()
			agrees(t, dir)
		})
	}
}

// Without Takeover, a start in a workspace where a server lives changes nothing.
func TestOccupied(t *testing.T) {
	dir := workspace(t)
	a := start(t, dir, nil)
	a.serving()
	before := listing(t, dir)
	err := start(t, dir, func(c *handoff.Config) { c.Takeover = false }).gone()
	if !errors.Is(err, handoff.ErrOccupied) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("second start: %v", err)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the workspace has changed from\n%sto\n%s", before, after)
	}
	a.stop()
	a.gone()
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Name() != "server.log" && !strings.HasSuffix(path, ".db") {
			fmt.Fprintln(&b, path, info.Mode(), info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Writes by others arrive once and in order, whichever process sends them.
func TestPushesDuringHandoffs(t *testing.T) {
	var mu sync.Mutex
	var newest *conn.Conn
	next := 0
	pushed := conn.Protocol{Name: "push", New: func() conn.Handler { return register(func(c *conn.Conn) { mu.Lock(); newest = c; mu.Unlock() }) }}
	change := func(c *handoff.Config) {
		c.Protocols, c.Listen = []conn.Protocol{pushed}, []string{"push://127.0.0.1:0"}
	}
	dir := workspace(t)
	last := start(t, dir, change)
	c := dial(t, last.serving())
	exchange(t, c, "x", "!")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			mu.Lock()
			if _, err := fmt.Fprintf(newest, "%d\n", next); err == nil {
				next++
			}
			mu.Unlock()
		}
	}()
	var got bytes.Buffer
	read := make(chan struct{})
	go func() { defer close(read); io.Copy(&got, c) }()
	for range 5 {
		s := start(t, dir, change)
		s.serving()
		if _, err := c.Write([]byte("x")); err != nil { // has the successor's handler register
			t.Fatal(err)
		}
		time.Sleep(30 * time.Millisecond)
		if err := last.gone(); err != nil {
			t.Error(err)
		}
		last = s
	}
	close(stop)
	<-stopped
	last.stop()
	<-read
	c.Close()
	last.gone()
	n := 0
	for line := range strings.Lines(strings.ReplaceAll(got.String(), "!", "")) {
		if line != fmt.Sprintf("%d\n", n) {
			t.Fatalf("line %d is %q", n, line)
		}
		n++
	}
	if n != next || n == 0 {
		t.Errorf("%d lines were accepted, %d arrived", next, n)
	}
}

// register tells of the session it is called for, and answers "!".
type register func(*conn.Conn)

func (r register) Serve(c *conn.Conn) error {
	if _, err := c.Peek(1); err != nil {
		return err
	}
	c.Discard(1)
	r(c)
	_, err := c.Write([]byte("!"))
	return err
}
