package crowd

import (
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"baton/tests/bench/internal/part"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Told is a Report on its way between processes.
type Told struct {
	Frames   int64                  `json:"frames"`
	Latency  *hdrhistogram.Snapshot `json:"latency"`
	OwnDelay *hdrhistogram.Snapshot `json:"own_delay"`
	At       []int64                `json:"at,omitempty"` // of the samples
	Took     []int64                `json:"took,omitempty"`
}

func tell(r Report) (Told, error) {
	t := Told{Frames: r.Frames, Latency: r.Latency.Export(), OwnDelay: r.OwnDelay.Export()}
	for _, s := range r.Samples {
		t.At, t.Took = append(t.At, s.At), append(t.Took, s.Latency)
	}
	return t, r.Err
}

// Report is what was told.
func (t Told) Report() Report {
	r := Report{Frames: t.Frames, Latency: hdrhistogram.Import(t.Latency), OwnDelay: hdrhistogram.Import(t.OwnDelay)}
	for i := range t.At {
		r.Samples = append(r.Samples, Sample{t.At[i], t.Took[i]})
	}
	return r
}

// A Target is whom to dial, and how often.
type Target struct {
	Addr string `json:"addr"`
	N    int    `json:"n"`
}

// Handlers are the role of a crowd, as a process of its own.
func Handlers() part.Handlers {
	var c *Crowd
	return part.Handlers{
		"open": part.Do(func(t Target) (any, error) {
			var err error
			c, err = Open(t.Addr, t.N)
			return nil, err
		}),
		"pace":  part.Do(func(d time.Duration) (any, error) { c.Pace(d); return nil, nil }),
		"loop":  func(json.RawMessage) (any, error) { c.Loop(); return nil, nil },
		"take":  func(json.RawMessage) (any, error) { return tell(c.Take()) },
		"rest":  func(json.RawMessage) (any, error) { return tell(c.Rest()) },
		"close": func(json.RawMessage) (any, error) { c.Close(); return nil, nil },
		"visit": part.Do(visitFor),
	}
}

// A Stay is how long visitors are to come and go.
type Stay struct {
	Addr string        `json:"addr"`
	For  time.Duration `json:"for"`
}

// visitFor answers with visits per second.
func visitFor(s Stay) (any, error) {
	var visits atomic.Int64
	quit := make(chan struct{})
	began := time.Now()
	over := time.AfterFunc(s.For, func() { close(quit) })
	defer over.Stop()
	err := Visit(s.Addr, quit, func(n int) { visits.Add(int64(n)) })
	rate := float64(visits.Load()) / time.Since(began).Seconds()
	if err == nil && visits.Load() == 0 {
		err = errors.New("nobody was served")
	}
	return rate, err
}
