// Client holds many pinging connections to a server, checks every byte of its answers, and reports what a client felt: connections
// dropped, wrong bytes, refused dials, and the distribution of latency, overall and in the worst second.
//
//	client -addr :7000 -n 1000 -d 30s
//	client -n 20 -slow           # lets a megabyte of answers pile up unread, again and again
//	client -n 100 -split -churn  # sends frames in pieces, and keeps dialling anew
//
// It exits with 0 if nothing was lost, 1 if something was or the load could not start, 2 if it was called wrongly. SIGINT ends the load
// early, and still reports; a second one ends the client at once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"baton/internal/load"
)

const (
	exitOK    = 0
	exitLost  = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal gets the system's treatment
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are what the command line says.
type options struct {
	load     load.Config
	duration time.Duration // 0 = until interrupted
	json     bool
}

// run is main with its surroundings as arguments. The end of ctx ends the load early.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	l, err := load.Start(ctx, opts.load)
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "client: interrupted before all connections were open")
		return exitLost
	case errors.Is(err, syscall.ECONNREFUSED):
		fmt.Fprintf(stderr, "client: %v; is the server running there? -addr names another\n", err)
		return exitLost
	case err != nil:
		fmt.Fprintln(stderr, "client:", err)
		return exitLost
	}
	began := time.Now()
	wait(ctx, opts.duration)
	took := time.Since(began)
	r := l.Stop(context.WithoutCancel(ctx))

	report := printTable
	if opts.json {
		report = printJSON
	}
	if err := report(stdout, opts.load, r, took); err != nil {
		fmt.Fprintln(stderr, "client: write the report:", err)
		return exitLost
	}
	if !r.OK() {
		return exitLost
	}
	return exitOK
}

// parse reads the command line. What is wrong with it has been printed when it returns an error.
func parse(args []string, stderr io.Writer) (options, error) {
	var (
		opts  options
		group load.Group
	)
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&opts.load.Addr, "addr", ":7000", "`host:port` of the server")
	flags.IntVar(&group.N, "n", 100, "`connections`")
	flags.DurationVar(&opts.duration, "d", 10*time.Second, "`time` to run; 0 runs until interrupted")
	flags.DurationVar(&opts.load.Interval, "interval", 200*time.Millisecond, "`time` between the pings of one connection; below the server's read timeout")
	flags.DurationVar(&opts.load.Patience, "patience", 10*time.Second, "`time` that an answer may take before the connection counts as dropped")
	flags.BoolVar(&group.Split, "split", false, "send frames in pieces, with gaps of up to a second")
	flags.BoolVar(&group.Slow, "slow", false, "let a megabyte of answers pile up unread, then read them all")
	flags.BoolVar(&group.Churn, "churn", false, "close after a few pings and dial anew")
	flags.BoolVar(&opts.json, "json", false, "report as JSON")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	var wrong string
	switch {
	case flags.NArg() > 0:
		wrong = fmt.Sprintf("unexpected argument %q", flags.Arg(0))
	case group.N < 1:
		wrong = fmt.Sprintf("-n %d: at least one connection is needed", group.N)
	case opts.duration < 0:
		wrong = fmt.Sprintf("-d %v: a time cannot be negative", opts.duration)
	case opts.load.Interval <= 0:
		wrong = fmt.Sprintf("-interval %v: must be more than 0", opts.load.Interval)
	case opts.load.Patience <= 0:
		wrong = fmt.Sprintf("-patience %v: must be more than 0", opts.load.Patience)
	}
	if wrong != "" {
		fmt.Fprintf(stderr, "client: %s\nclient -h lists the flags\n", wrong)
		return options{}, errors.New(wrong)
	}
	opts.load.Groups = []load.Group{group}
	return opts, nil
}

// wait returns after d, or when ctx ends; 0 waits for ctx alone.
func wait(ctx context.Context, d time.Duration) {
	if d == 0 {
		<-ctx.Done()
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
