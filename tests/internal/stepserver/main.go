// Command stepserver is the demo's server with every timeout on its command line, for tests that cannot wait. Built with the tag "steps", it
// can be told by the environment to die at a step of a handoff: see handoff/internal/step. On SIGUSR1 it tells of its goroutines.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"baton/conn"
	"baton/conn/ping"
	"baton/handoff"
)

func main() {
	var cfg handoff.Config
	flag.StringVar(&cfg.Workspace, "w", "", "workspace")
	flag.DurationVar(&cfg.ReadTimeout, "read-timeout", time.Minute, "")
	flag.DurationVar(&cfg.WriteTimeout, "write-timeout", time.Minute, "")
	t := &cfg.Timeouts
	flag.DurationVar(&t.Hello, "hello", 0, "")
	flag.DurationVar(&t.Answer, "answer", 0, "")
	flag.DurationVar(&t.Handoff, "handoff", 0, "")
	flag.DurationVar(&t.Drain, "drain", 0, "")
	flag.DurationVar(&t.Probation, "probation", 0, "")
	flag.DurationVar(&t.Beat, "beat", 0, "")
	flag.DurationVar(&t.Exit, "exit", 0, "")
	flag.DurationVar(&t.Return, "return", 0, "")
	listen := flag.String("listen", "ping://127.0.0.1:0", "")
	withMoody := flag.Bool("moody", false, "listen for sessions of protocol moody as well")
	flag.Parse()
	cfg.Listen = []string{*listen}
	if *withMoody {
		cfg.Listen = append(cfg.Listen, "moody://127.0.0.1:0")
	}
	cfg.Protocols = []conn.Protocol{ping.Protocol(), moodyProtocol(cfg.Workspace)}
	tellStacks(cfg.Workspace)
	cfg.Ready = func(r handoff.Ready) { fmt.Printf("ready: run %d\n", r.Run) }
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := handoff.Run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "stepserver:", err)
		os.Exit(1)
	}
}
