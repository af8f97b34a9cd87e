// Command server serves long connections, and hands them to its own next version without a client noticing.
//
//	server -w DIR -listen ping://:7000     serve
//	server -w DIR -upgrade                 replace the running server by a new one
//	server -demo                           show it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"baton/conn"
	"baton/conn/ping"
	"baton/handoff"
)

// The exit codes.
const (
	exitOK         = 0
	exitError      = 1
	exitUsage      = 2
	exitRolledBack = 3 // the running server goes on
	exitNoServer   = 4
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	asked := make(chan os.Signal, 2)
	signal.Notify(asked, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-asked
		stop()
		<-asked
		os.Exit(exitOK) // asked twice: at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// protocols is what this server speaks.
func protocols() []conn.Protocol { return []conn.Protocol{ping.Protocol()} }

// options are the command line.
type options struct {
	handoff.Config
	listen listenFlag

	upgrade, check, status, replay, json, version, demo bool
	binary                                              string
}

// listenFlag is a flag that may be given more than once.
type listenFlag []string

func (l *listenFlag) String() string     { return strings.Join(*l, " ") }
func (l *listenFlag) Set(s string) error { *l = append(*l, s); return nil }

// parse reads the command line. If it asks for help, that is written to help, and the error is flag.ErrHelp.
func parse(args []string, help io.Writer) (o options, err error) {
	f := flag.NewFlagSet("server", flag.ContinueOnError)
	f.SetOutput(io.Discard) // a wrong flag is told in one line; -help tells all
	f.Usage = func() {}
	f.StringVar(&o.Workspace, "w", ".", "workspace `DIR`: log, sockets, journal")
	f.Var(&o.listen, "listen", "`URL` to listen on, protocol://address; may be repeated (default ping://:7000)")
	f.BoolVar(&o.Takeover, "takeover", false, "take over from the server that runs in the workspace, which did not start this process")

	f.BoolVar(&o.upgrade, "upgrade", false, "have the running server replaced; exit 0 done, 3 rolled back, 4 no server")
	f.StringVar(&o.binary, "binary", "", "with -upgrade: the program to start, `PATH` (default: as the server was started)")
	f.BoolVar(&o.check, "check", false, "with -upgrade: only say whether it would work")
	f.BoolVar(&o.status, "status", false, "print the running server's status as JSON; exit 4 if none runs")
	f.BoolVar(&o.replay, "replay", false, "tell from the journals what happened")
	f.BoolVar(&o.json, "json", false, "with -replay: as JSON")
	f.BoolVar(&o.demo, "demo", false, "show three upgrades under load, in a temporary workspace")
	f.BoolVar(&o.version, "version", false, "print the version")

	f.DurationVar(&o.ReadTimeout, "read-timeout", 5*time.Second, "close a client that sends nothing for so long; 0 = no limit")
	f.DurationVar(&o.WriteTimeout, "write-timeout", 5*time.Second, "close a client that takes nothing for so long; 0 = no limit")
	f.DurationVar(&o.Timeouts.Hello, "hello-timeout", 30*time.Second, "how long a successor may take to become ready")
	f.DurationVar(&o.Timeouts.Handoff, "handoff-timeout", 5*time.Minute, "how long a handoff may take in all")
	f.DurationVar(&o.Timeouts.Drain, "drain-timeout", 30*time.Second, "how long busy sessions may keep the old process; then they are closed")
	f.DurationVar(&o.Timeouts.Probation, "probation", 5*time.Second, "how long the old process stays to help if the new one dies")
	f.DurationVar(&o.Timeouts.Return, "return-timeout", 10*time.Second, "how long a failing successor may take to give connections back; then it is killed")
	f.DurationVar(&o.Timeouts.Stop, "stop-timeout", 5*time.Second, "how long clients may take to receive what was written to them, at a stop")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(help, "Usage of server:")
		f.SetOutput(help)
		f.PrintDefaults()
		return o, err
	case err != nil:
		return o, usageError(err.Error())
	}
	return o, o.validate(f)
}

// A usageError is a command line that makes no sense.
type usageError string

func (e usageError) Error() string { return string(e) }

func (o *options) validate(f *flag.FlagSet) error {
	if f.NArg() > 0 {
		return usageError(fmt.Sprintf("unexpected argument %q", f.Arg(0)))
	}
	modes := 0
	for _, m := range []bool{o.upgrade, o.status, o.replay, o.version, o.demo, o.Takeover} {
		if m {
			modes++
		}
	}
	switch {
	case o.Workspace == "":
		return usageError("-w needs a directory")
	case modes > 1:
		return usageError("choose one of -upgrade, -status, -replay, -version, -demo, -takeover")
	case (o.binary != "" || o.check) && !o.upgrade:
		return usageError("-binary and -check go with -upgrade")
	case o.json && !o.replay:
		return usageError("-json goes with -replay")
	}
	for name, d := range map[string]time.Duration{
		"hello-timeout": o.Timeouts.Hello, "handoff-timeout": o.Timeouts.Handoff, "drain-timeout": o.Timeouts.Drain,
		"probation": o.Timeouts.Probation, "return-timeout": o.Timeouts.Return, "stop-timeout": o.Timeouts.Stop,
	} {
		if d <= 0 {
			return usageError("-" + name + " has to be more than 0")
		}
	}
	if o.ReadTimeout < 0 || o.WriteTimeout < 0 {
		return usageError("-read-timeout and -write-timeout cannot be negative")
	}
	o.Listen = o.listen
	if len(o.Listen) == 0 {
		o.Listen = []string{"ping://:7000"}
	}
	return o.validateListeners()
}

// validateListeners finds what can be found without opening anything.
func (o *options) validateListeners() error {
	for _, url := range o.Listen {
		protocol, _, err := conn.ParseURL(url)
		if err != nil {
			return usageError(err.Error())
		}
		known := false
		for _, p := range protocols() {
			known = known || p.Name == protocol
		}
		if !known {
			return usageError(fmt.Sprintf("listener %q: %v %q; this server speaks %s", url, conn.ErrProtocol, protocol, protocolNames()))
		}
	}
	return nil
}

func protocolNames() string {
	var names []string
	for _, p := range protocols() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "server: %v; see -help\n", err)
		return exitUsage
	}
	switch {
	case o.version:
		fmt.Fprintln(stdout, versionLine())
		return exitOK
	case o.status:
		return status(ctx, o, stdout, stderr)
	case o.upgrade:
		return upgrade(ctx, o, stdout, stderr)
	case o.replay:
		return replay(ctx, o, stdout, stderr)
	case o.demo:
		return demo(ctx, stdout, stderr)
	}
	return serve(ctx, o, stdout, stderr)
}

// fail tells an error and returns the exit code that goes with it.
func fail(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "server: %v\n", err)
	if errors.Is(err, handoff.ErrNoServer) {
		return exitNoServer
	}
	return exitError
}
