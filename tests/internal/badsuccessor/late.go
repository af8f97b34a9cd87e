package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"baton/conn"
	"baton/conn/ping"
	"baton/handoff"

	"golang.org/x/sys/unix"
)

// lateWays are those of a real server to which something happens when it has served some sessions already: with the 200th session it takes,
// in this list by name. The error refuses that session, and those after it.
var lateWays = map[string]func() error{
	"refuses-late":   func() error { return errors.New("no more of these") },
	"runs-out-late":  func() error { return limit(unix.RLIMIT_NOFILE, openFiles()) },
	"disk-full-late": func() error { return limit(unix.RLIMIT_FSIZE, 0) },
}

// serve is the server's life, with something that happens.
func serve(late func() error) {
	signal.Ignore(unix.SIGXFSZ)
	var sessions atomic.Int64
	p := ping.Protocol()
	inner := p.New
	p.New = func() conn.Handler {
		return &moody{inner(), func() error {
			if sessions.Add(1) < 200 {
				return nil
			}
			return late()
		}}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := handoff.Run(ctx, handoff.Config{Workspace: argument("-w"), Listen: []string{argument("-listen")}, Protocols: []conn.Protocol{p}})
	if err != nil {
		die(err.Error())
	}
	os.Exit(0)
}

// moody is a handler that says what it thinks of being loaded.
type moody struct {
	conn.Handler
	loaded func() error
}

func (m *moody) Save(int) ([]byte, error) { return nil, nil }
func (m *moody) Load(int, []byte) error   { return m.loaded() }

func argument(name string) string {
	i := slices.Index(os.Args, name)
	if i < 0 || i+1 == len(os.Args) {
		die("no " + name)
	}
	return os.Args[i+1]
}

func limit(what int, most uint64) error {
	if err := unix.Setrlimit(what, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		die(err.Error())
	}
	return nil
}

func openFiles() uint64 {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return uint64(len(entries))
}
