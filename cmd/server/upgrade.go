package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"baton/handoff"
	"baton/handoff/protocol"
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
	bar := newUpgradeBar(stderr)
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
