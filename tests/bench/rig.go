package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"baton/handoff"
	"baton/internal/process"
	"baton/tests/bench/internal/crowd"
	"baton/tests/bench/internal/part"
	"baton/tests/bench/internal/rival"
)

// A clients is a crowd in a process of its own.
type clients struct{ *part.Child }

// crowdOf opens n connections, which are at rest.
func crowdOf(addr string, n int) (*clients, error) {
	c, err := part.Start("crowd")
	if err != nil {
		return nil, err
	}
	if err := c.Ask("open", crowd.Target{Addr: addr, N: n}, nil); err != nil {
		c.Close()
		return nil, err
	}
	return &clients{c}, nil
}

// take and rest return a crowd's report. A connection that has failed is an error: then nothing that was measured counts.
func (c *clients) take() (crowd.Report, error) { return c.report("take") }
func (c *clients) rest() (crowd.Report, error) { return c.report("rest") }

func (c *clients) report(ask string) (crowd.Report, error) {
	var told crowd.Told
	if err := c.Ask(ask, nil, &told); err != nil {
		return crowd.Report{}, err
	}
	return told.Report(), nil
}

// A baton is a real server in a workspace of its own.
type baton struct {
	dir    string // the workspace
	addr   string
	client *handoff.Client
	first  *exec.Cmd
	output *os.File
}

// startBaton starts a program that serves a workspace: the server, or bench in its place.
func (b *bench) startBaton(ctx context.Context, program string, args ...string) (_ *baton, err error) {
	base, err := os.MkdirTemp(b.dir, "w")
	if err != nil {
		return nil, err
	}
	s := &baton{dir: filepath.Join(base, "ws")}
	s.client = handoff.NewClient(s.dir)
	out, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.output = out
	s.first = exec.Command(program, append([]string{"-w", s.dir}, args...)...)
	s.first.Stdout, s.first.Stderr = w, os.Stderr
	err = s.first.Start()
	w.Close()
	if err != nil {
		out.Close()
		return nil, err
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("the server did not start: %w", err)
	}
	go io.Copy(io.Discard, out)
	status, err := s.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	s.addr = status.Listeners[0].Addr
	return s, nil
}

// startServer starts the real server. Its timeouts are on, and longer than any rest that a crowd is given.
func (b *bench) startServer(ctx context.Context) (*baton, error) {
	return b.startBaton(ctx, b.server, "-listen", "ping://127.0.0.1:0", "-read-timeout", "10m", "-write-timeout", "10m",
		"-probation", b.short(2*time.Second, 500*time.Millisecond).String())
}

// upgrade hands over, and insists that it went well.
func (s *baton) upgrade(ctx context.Context) (handoff.Handoff, error) {
	h, err := s.client.Upgrade(ctx, handoff.UpgradeRequest{By: "bench"}, nil)
	if err == nil && !h.Succeeded() {
		err = fmt.Errorf("%s: %s", h.Result, h.Reason)
	}
	return h, err
}

// settle waits until the serving process is alone.
func (s *baton) settle(ctx context.Context) error {
	for {
		status, err := s.client.Status(ctx)
		if err != nil {
			return err
		}
		if status.Predecessor == 0 {
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// stopTime is how long a server may take to stop.
const stopTime = 15 * time.Second

// stop ends the run that serves, and with it those before it. If nothing answers, the first process is what can be ended.
func (s *baton) stop() error {
	defer s.output.Close()
	defer s.first.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	status, err := s.client.Status(ctx)
	if err != nil {
		s.first.Process.Kill()
		return err
	}
	return process.Stop(status.PID, stopTime)
}

// startHost starts a process that serves in one of rival's ways.
func startHost(kind string) (h *part.Child, addr string, err error) {
	if h, err = part.Start("host"); err != nil {
		return nil, "", err
	}
	if err := h.Ask("listen", kind, &addr); err != nil {
		h.Close()
		return nil, "", err
	}
	return h, addr, nil
}

// A floorRig lends the sockets of a bare server, again and again.
type floorRig struct {
	host, borrower *part.Child
	crowd          *clients
	path           string
}

func (b *bench) newFloorRig(n int) (_ *floorRig, err error) {
	r := &floorRig{path: filepath.Join(b.dir, fmt.Sprintf("floor%d", n))}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	host, addr, err := startHost(rival.KindBare)
	if err != nil {
		return nil, err
	}
	r.host = host
	if r.borrower, err = part.Start("host"); err != nil {
		return nil, err
	}
	if err := r.borrower.Ask("borrow", r.path, nil); err != nil {
		return nil, err
	}
	r.crowd, err = crowdOf(addr, n)
	return r, err
}

// lend lends everything once.
func (r *floorRig) lend(m *moves) error {
	before, err := cpuOfAll(r.host.PID(), r.borrower.PID())
	if err != nil {
		return err
	}
	var moved rival.Moved
	if err := r.host.Ask("lend", r.path, &moved); err != nil {
		return err
	}
	after, err := cpuOfAll(r.host.PID(), r.borrower.PID())
	m.floor = append(m.floor, float64(moved.Took)/float64(moved.N))
	m.floorCPU = append(m.floorCPU, (after-before)*1e9/float64(moved.N))
	return err
}

func (r *floorRig) close() {
	if r.crowd != nil {
		r.crowd.Close()
	}
	for _, c := range []*part.Child{r.host, r.borrower} {
		if c != nil {
			c.Close()
		}
	}
}

// A rivalRig moves the connections of a plain server from process to process.
type rivalRig struct {
	b     *bench
	host  *part.Child
	crowd *clients
	moves int
}

func (b *bench) newRivalRig(n int) (*rivalRig, error) {
	host, addr, err := startHost(rival.KindPlain)
	if err != nil {
		return nil, err
	}
	r := &rivalRig{b: b, host: host}
	if r.crowd, err = crowdOf(addr, n); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// move moves everything to a fresh process.
func (r *rivalRig) move(way string) (m rival.Moved, got rival.Got, err error) {
	r.moves++
	path := filepath.Join(r.b.dir, fmt.Sprintf("rival%d", r.moves))
	next, err := part.Start("host")
	if err != nil {
		return m, got, err
	}
	if err := next.Ask("receive", path, nil); err != nil {
		next.Close()
		return m, got, err
	}
	if err := r.host.Ask("give", rival.Move{Way: way, Path: path}, &m); err != nil {
		next.Close()
		return m, got, err
	}
	r.host.Close()
	r.host = next
	if err := next.Ask("got", nil, &got); err != nil {
		return m, got, err
	}
	if got.N != m.N {
		err = fmt.Errorf("%d connections were sent and %d came", m.N, got.N)
	}
	return m, got, err
}

func (r *rivalRig) close() {
	if r.crowd != nil {
		r.crowd.Close()
	}
	r.host.Close()
}
