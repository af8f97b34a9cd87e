package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"baton/handoff"
	"baton/handoff/protocol"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// upgrade asks the running server to hand over, shows how far it is, and prints how it went.
func upgrade(ctx context.Context, o options, stdout, stderr io.Writer) int {
	req := handoff.UpgradeRequest{Check: o.check, By: "server -upgrade"}
	if o.binary != "" {
		path, err := absolute(o.binary)
		if err != nil {
			return fail(stderr, err)
		}
		req.Binary = path
	}
	bar := newBar(stderr)
	h, err := handoff.NewClient(o.Workspace).Upgrade(ctx, req, bar.show)
	bar.done()
	if err != nil {
		return fail(stderr, err)
	}
	fmt.Fprintln(stdout, outcome(h))
	if !h.Succeeded() {
		return exitRolledBack
	}
	return exitOK
}

// absolute is the path of a program, as the server will start it: a name without a slash is looked for in PATH, as a shell would.
// Whether it can be started is the server's to find out.
func absolute(binary string) (string, error) {
	if !strings.ContainsRune(binary, '/') {
		if found, err := exec.LookPath(binary); err == nil {
			binary = found
		}
	}
	return filepath.Abs(binary)
}

// outcome tells how an upgrade went in a line or two.
func outcome(h handoff.Handoff) string {
	switch {
	case h.Result == protocol.ResultChecked:
		return fmt.Sprintf("check: %s (run %d, version %s)", h.Reason, h.To, h.Version)
	case !h.Succeeded():
		return fmt.Sprintf("%s: run %d goes on serving\nreason: %s", h.Result, h.From, h.Reason)
	}
	line := fmt.Sprintf("done: run %d → run %d (pid %d, version %s): %d sessions in %.1f ms, pause p50 %s, p99 %s, max %s",
		h.From, h.To, h.PID, h.Version, h.Moved, h.Took, us(h.Pause.P50), us(h.Pause.P99), us(h.Pause.Max))
	if h.Stragglers > 0 {
		line += fmt.Sprintf("; %d were busy and follow", h.Stragglers)
	}
	return line
}

// us is a time in µs, for people.
func us(n int64) string {
	if n >= 10_000 {
		return fmt.Sprintf("%.1f ms", float64(n)/1000)
	}
	return fmt.Sprintf("%d µs", n)
}

// A bar shows how far an upgrade is, on a terminal.
type bar struct {
	progress *mpb.Progress
	bar      *mpb.Bar
}

func newBar(stderr io.Writer) *bar {
	f, ok := stderr.(*os.File)
	if !ok {
		return &bar{}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return &bar{}
	}
	p := mpb.New(mpb.WithOutput(stderr), mpb.WithWidth(50))
	state := "asking"
	b := p.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return state + " " })),
		mpb.AppendDecorators(decor.CountersNoUnit("%d / %d sessions")))
	return &bar{p, b}
}

func (b *bar) show(p handoff.Progress) {
	if b.bar != nil {
		b.bar.SetTotal(int64(p.Of), false)
		b.bar.SetCurrent(int64(p.Moved))
	}
}

func (b *bar) done() {
	if b.bar != nil {
		b.bar.SetTotal(-1, true)
		b.bar.Abort(true)
		b.progress.Wait()
	}
}

// status prints what the running server says about itself.
func status(ctx context.Context, o options, stdout, stderr io.Writer) int {
	s, err := handoff.NewClient(o.Workspace).Status(ctx)
	if err != nil {
		return fail(stderr, err)
	}
	e := json.NewEncoder(stdout)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

func replay(ctx context.Context, o options, stdout, stderr io.Writer) int {
	return fail(stderr, errors.New("not yet"))
}

func demo(ctx context.Context, stdout, stderr io.Writer) int {
	return fail(stderr, errors.New("not yet"))
}
