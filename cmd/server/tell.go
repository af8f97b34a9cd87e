package main

import (
	"context"
	"encoding/json"
	"io"

	"baton/handoff"
)

// status prints what the running server says about itself.
func status(ctx context.Context, o options, stdout, stderr io.Writer) int {
	s, err := handoff.NewClient(o.Workspace).Status(ctx)
	if err == nil {
		err = writeJSON(stdout, s)
	}
	if err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

// replay tells from the journals what happened.
func replay(ctx context.Context, o options, stdout, stderr io.Writer) int {
	timeline, err := handoff.Replay(ctx, o.Workspace)
	switch {
	case err != nil:
	case o.json:
		err = writeJSON(stdout, timeline)
	default:
		_, err = io.WriteString(stdout, timeline.Text())
	}
	if err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

// writeJSON writes v for machines, and for people who look at what machines get.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
