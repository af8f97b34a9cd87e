// Bench measures what baton promises, beside what it is compared with, in one run:
//
//	go run ./tests/bench -html bench.html -json bench.json
//	go run ./tests/bench -quick            # small sizes, for CI: does it still work, and is nothing far off
//	go run ./tests/bench -only '^[1-5]$'   # some rows
//
// It builds the server itself, starts it and its rivals as processes of their own on the loopback, and ends what it has started. What is
// compared is measured by turns, several times, and told as the median of the ratios. A goal that is missed is marked, and no failure:
// the exit code is 0 if everything could be measured. docs/benchmarks.md says how each row is measured and what bounds it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"baton/tests/bench/internal/crowd"
	"baton/tests/bench/internal/figure"
	"baton/tests/bench/internal/rival"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal gets the system's treatment
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the command line.
type options struct {
	quick, large bool
	only         *regexp.Regexp
	sizes        []int // connections, of the rows about moving
	size         int   // that the rows are about which have one
	repeat       int
	quiet        time.Duration // how long each turn waits for others to leave the machine alone
	json, html   string

	role string // of a process that another one has started
	dir  string // workspace of the role "server"
}

// Sizes and repetitions, unless the command line has others.
var (
	fullSizes  = []int{1000, 5000, 10000, 15000, 18000}
	quickSizes = []int{500, 2000}
)

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	var only, sizes string
	f.BoolVar(&o.quick, "quick", false, "small sizes and short times; within 40 s")
	f.BoolVar(&o.large, "large", false, "also drive the parts that could bend at a million connections, without sockets")
	f.StringVar(&only, "only", "", "measure only the rows whose number or name this `REGEXP` matches")
	f.StringVar(&sizes, "n", "", "`SIZES` of the rows about moving, as in 1000,15000")
	f.IntVar(&o.repeat, "repeat", 0, "how `often` each is measured (default 5; with -quick 2)")
	f.DurationVar(&o.quiet, "quiet", 0, "before each turn, wait up to this `TIME` for others to leave the machine alone")
	f.StringVar(&o.json, "json", "", "write the results to `FILE`, as JSON")
	f.StringVar(&o.html, "html", "", "write the results to `FILE`, as a page with plots")
	f.StringVar(&o.role, "role", "", "for bench's own processes")
	f.StringVar(&o.dir, "w", "", "with -role server: the workspace")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.only, err = regexp.Compile(only); err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	return o, o.complete(sizes)
}

func (o *options) complete(sizes string) error {
	o.sizes = fullSizes
	if o.quick {
		o.sizes = quickSizes
	}
	if sizes != "" {
		o.sizes = nil
		for s := range strings.SplitSeq(sizes, ",") {
			n, err := strconv.Atoi(s)
			if err != nil || n < 1 {
				return fmt.Errorf("-n: %q is not a number of connections", s)
			}
			o.sizes = append(o.sizes, n)
		}
	}
	o.size = mainSize(o.sizes)
	switch {
	case o.repeat < 0:
		return errors.New("-repeat cannot be negative")
	case o.repeat == 0 && o.quick:
		o.repeat = 2
	case o.repeat == 0:
		o.repeat = 5
	}
	return nil
}

// mainSize is 15,000, or else the largest.
func mainSize(sizes []int) (size int) {
	for _, n := range sizes {
		if n == 15000 {
			return n
		}
		size = max(size, n)
	}
	return size
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v; see -help\n", err)
		return 2
	case o.role != "":
		err = play(o, stdout)
	default:
		err = measure(ctx, o, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// play is what bench does in the processes that it starts.
func play(o options, stdout io.Writer) error {
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, os.Interrupt) // the terminal sends it to all; who has started us ends us
	switch o.role {
	case "crowd":
		return crowd.Handlers().Play(os.Stdin, stdout)
	case "host":
		return rival.Handlers().Play(os.Stdin, stdout)
	case "server":
		return serve(o.dir)
	}
	return fmt.Errorf("no role %q", o.role)
}

// measure runs the rows that were asked for, and tells how it went.
func measure(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	b := &bench{options: o, began: time.Now(), progress: stderr}
	if err := b.build(ctx); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	machine := thisMachine(ctx, b.server)
	rows, large, err := b.measureAll(ctx)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	machine.Busy = figure.SpreadOf(b.others)
	report := results{Machine: machine, Took: time.Since(b.began).Seconds(), Repeat: o.repeat, Rows: rows, Large: large, Plots: b.plots()}
	return errors.Join(err, report.write(stdout, o))
}
