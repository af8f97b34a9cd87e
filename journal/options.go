package journal

import (
	"cmp"
	"log/slog"
	"time"
)

// Options tune a journal. The zero value is a good one.
type Options struct {
	Window time.Duration // how far the file may trail; 0 = 50 ms
	Hung   time.Duration // a disk that answers nothing for so long is reported by Err; 0 = 1 s
	Quiet  time.Duration // without a write for so long, the file is forced to the disk; 0 = 1 s
	Close  time.Duration // how long Close waits for a disk that does not answer; 0 = 5 s

	After  int // the run's number is above this one, whichever files are there
	Events int // events that may wait for the disk; the rest is counted as a gap; 0 = 4096
	Recent int // closed sessions to keep; 0 = 1024

	Logger *slog.Logger // told of files set aside and of writing that fails and works again; nil = nobody
}

func (o Options) withDefaults() Options {
	o.Window = cmp.Or(o.Window, 50*time.Millisecond)
	o.Hung = cmp.Or(o.Hung, time.Second)
	o.Quiet = cmp.Or(o.Quiet, time.Second)
	o.Close = cmp.Or(o.Close, 5*time.Second)
	o.Events = cmp.Or(o.Events, 4096)
	o.Recent = cmp.Or(o.Recent, 1024)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
