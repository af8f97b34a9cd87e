package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"baton/handoff"
)

// version and commit are set at build time: -ldflags "-X main.version=1.2.3 -X main.commit=0123abc".
var (
	version = "dev"
	commit  = ""
)

func versionLine() string {
	return fmt.Sprintf("baton server %s, commit %s, %s", version, commitName(), runtime.Version())
}

func commitName() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// tellPatience is how long the line that says ready may keep a server from exiting.
const tellPatience = 100 * time.Millisecond

// serve serves in the foreground. It prints one line when it is ready.
func serve(ctx context.Context, o options, stdout, stderr io.Writer) int {
	o.Protocols, o.Version = protocols(), version
	var telling sync.WaitGroup
	o.Ready = func(r handoff.Ready) {
		var where []string
		for _, l := range r.Listeners {
			where = append(where, fmt.Sprintf("%s (%s)", l.URL, l.Addr))
		}
		line := fmt.Sprintf("ready: run %d serves %s", r.Run, strings.Join(where, ", "))
		if r.Predecessor > 0 {
			line += fmt.Sprintf("; took over %d sessions from run %d", r.Sessions, r.Predecessor)
		}
		telling.Go(func() { fmt.Fprintln(stdout, line) }) // stdout may be a pipe that nobody reads
	}
	if err := handoff.Run(ctx, o.Config); err != nil {
		return fail(stderr, err)
	}
	told := make(chan struct{})
	go func() { telling.Wait(); close(told) }()
	select {
	case <-told:
	case <-time.After(tellPatience):
	}
	return exitOK
}
