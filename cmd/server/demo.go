package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"baton/handoff"
	"baton/internal/human"
	"baton/internal/load"
	"baton/internal/process"
)

// The demonstration: a server in a workspace of its own, a crowd of clients that check every byte, and upgrades under that load.
const (
	demoUpgrades = 3
	demoBreath   = 2 * time.Second // before, between and after the upgrades
)

// demoCrowd is 1,000 clients.
var demoCrowd = []load.Group{
	{N: 820},
	{N: 80, Split: true},
	{N: 40, Slow: true},
	{N: 60, Churn: true},
}

// demo shows it, and exits with exitOK only if nothing was lost.
func demo(ctx context.Context, stdout, stderr io.Writer) int {
	lost, err := runDemo(ctx, stdout, stderr)
	switch {
	case err != nil:
		return fail(stderr, fmt.Errorf("demo: %w", err))
	case lost:
		return exitError
	}
	return exitOK
}

// runDemo leaves the workspace behind, for those who want to see the journal, unless it was interrupted or never began.
func runDemo(ctx context.Context, stdout, stderr io.Writer) (lost bool, err error) {
	dir, err := os.MkdirTemp("", "baton-demo-")
	if err != nil {
		return false, err
	}
	s, err := startDemoServer(ctx, dir, stderr)
	if err != nil {
		os.RemoveAll(dir)
		return false, err
	}
	defer func() {
		err = errors.Join(err, s.stop())
		if ctx.Err() != nil {
			os.RemoveAll(dir)
			err = errors.New("interrupted")
		}
	}()
	fmt.Fprintf(stdout, "A server (pid %d) in %s, and 1,000 clients that check every byte it sends.\n", s.status.PID, dir)
	crowd, err := load.Start(ctx, load.Config{Addr: s.status.Listeners[0].Addr, Groups: demoCrowd})
	if err != nil {
		return false, err
	}
	upgrades, err := upgradeUnderLoad(ctx, s.client, crowd, stderr)
	over, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	report := crowd.Stop(over)
	if err != nil {
		return false, err
	}
	printDemo(stdout, report, upgrades)
	self, _ := os.Executable()
	if strings.Contains(self, "/go-build") {
		self = "go run ./cmd/server" // which removes what it has built
	}
	fmt.Fprintf(stdout, "\nThe journal of all %d runs is in %s. What happened, from both sides:\n  %s -w %s -replay\n",
		len(upgrades)+1, filepath.Join(dir, "journal"), self, dir)
	return !report.OK(), nil
}

// A demoServer is a line of server processes that starts as a child of this one.
type demoServer struct {
	client *handoff.Client
	status handoff.Status
	child  *exec.Cmd
	output *os.File
}

// startDemoServer starts the first run and returns when it serves.
func startDemoServer(ctx context.Context, dir string, stderr io.Writer) (_ *demoServer, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe() // not StdoutPipe: the successors of the child write to it as well
	if err != nil {
		return nil, err
	}
	s := &demoServer{client: handoff.NewClient(dir), output: r, child: exec.Command(self, "-w", dir, "-listen", "ping://127.0.0.1:0")}
	s.child.Stdout, s.child.Stderr = w, stderr
	err = s.child.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	if _, err = bufio.NewReader(r).ReadString('\n'); err == nil {
		s.status, err = s.client.Status(ctx)
	}
	if err != nil {
		s.child.Process.Kill()
		s.child.Wait()
		r.Close()
		return nil, fmt.Errorf("the server did not start: %w", err)
	}
	go io.Copy(io.Discard, r)
	return s, nil
}

// stop ends the run that serves now, and waits for it and for the first one.
func (s *demoServer) stop() error {
	defer s.output.Close()
	defer s.child.Wait()
	status, err := s.client.Status(context.Background())
	if err != nil {
		s.child.Process.Kill()
		return err
	}
	return process.Stop(status.PID, 10*time.Second)
}

// upgradeUnderLoad upgrades again and again, with time for the crowd in between. An upgrade that was rolled back is an error.
func upgradeUnderLoad(ctx context.Context, c *handoff.Client, crowd *load.Load, stderr io.Writer) (done []handoff.Handoff, err error) {
	show := newDemoBar(stderr, crowd)
	defer show.done()
	for i := range demoUpgrades {
		if err := show.breathe(ctx, fmt.Sprintf("serving; upgrade %d of %d is next", i+1, demoUpgrades)); err != nil {
			return done, err
		}
		h, err := c.Upgrade(ctx, handoff.UpgradeRequest{By: "server -demo"}, nil)
		if err != nil {
			return done, err
		}
		if done = append(done, h); !h.Succeeded() {
			return done, errors.New(outcome(h))
		}
	}
	return done, show.breathe(ctx, "serving; all upgrades are done")
}

// printDemo writes a table of the upgrades, and one of what the crowd felt.
func printDemo(w io.Writer, r load.Report, upgrades []handoff.Handoff) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nupgrade\tsessions\ttime\tpause p50\tp99\tmax\t")
	for _, h := range upgrades {
		fmt.Fprintf(t, "run %d → %d\t%s\t%.1f ms\t%s\t%s\t%s\t\n", h.From, h.To, human.Count(int64(h.Moved)), h.Took,
			us(h.Pause.P50), us(h.Pause.P99), us(h.Pause.Max))
	}
	t.Flush()
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t)
	fmt.Fprintf(t, "connections\t%s\t\n", human.Count(int64(r.Conns)))
	for _, g := range demoCrowd {
		fmt.Fprintf(t, "%s\t%d\t\n", g.Behaviour(), g.N)
	}
	fmt.Fprintf(t, "dialled\t%s\t\n", human.Count(r.Dialled))
	fmt.Fprintf(t, "frames\t%s\t\n", human.Count(r.Frames))
	fmt.Fprintf(t, "dropped\t%s\t\n", human.Count(r.Drops))
	fmt.Fprintf(t, "refused\t%s\t\n", human.Count(r.Refused))
	fmt.Fprintf(t, "wrong bytes\t%s\t\n", human.Count(r.Wrong))
	fmt.Fprintf(t, "latency p99\t%s\t\n", us(r.Latency.ValueAtQuantile(99)/1000))
	t.Flush()
	for _, f := range r.Failures {
		fmt.Fprintln(w, f)
	}
}
