package handoff

import (
	"os"
	"slices"
	"time"

	"baton/handoff/protocol"
	"baton/handoff/wire"
	"baton/internal/mono"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Status is what a server says about itself. Its JSON is what server -status prints; fields may be added.
type Status struct {
	State       string           `json:"state"` // a state of package fsm: "Serving", "Preparing" ...
	Run         int              `json:"run"`
	PID         int              `json:"pid"`
	Version     string           `json:"version"`               // Config.Version
	Sessions    int              `json:"sessions"`              // that this run serves
	Listeners   []ListenerStatus `json:"listeners"`             // in the order they were opened
	LastHandoff *Handoff         `json:"last_handoff"`          // this run's newest, of either side; nil = none yet
	Predecessor int              `json:"predecessor,omitempty"` // run that still keeps copies or stragglers
	Journal     string           `json:"journal"`               // "ok", or why it cannot be written
}

// ListenerStatus is a listener, by the URL it was asked for with and the address that it is bound to.
type ListenerStatus struct {
	URL  string `json:"url"`
	Addr string `json:"addr"`
}

// Handoff is the outcome of one attempt, as one side saw it. A dry run is one, too.
type Handoff struct {
	ID         string          `json:"id"`                // the same on both sides, and in both journals
	Result     protocol.Result `json:"result"`            // "done", "checked", "rolled back" ...; see Succeeded
	Reason     string          `json:"reason,omitempty"`  // for people
	From       int             `json:"from"`              // run
	To         int             `json:"to,omitempty"`      // run; 0 = it never said HELLO
	PID        int             `json:"pid,omitempty"`     // of the successor
	Version    string          `json:"version,omitempty"` // of the successor
	Moved      int             `json:"moved"`             // sessions given; in the end with the stragglers that followed
	Stragglers int             `json:"stragglers"`        // sessions that were still busy at DONE
	Pause      Pause           `json:"pause_us"`          // of the sessions that had moved by DONE
	Took       float64         `json:"took_ms"`           // ms; first lend to DONE, 0 if nothing moved
	Total      float64         `json:"total_ms"`          // ms; from the request to DONE, or to the end
}

// Pause is the distribution of how long sessions stood still, from freeze to resumed reading, in µs.
type Pause struct {
	P50  int64 `json:"p50"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

func pauseOf(p wire.Pause) Pause {
	us := func(ns int64) int64 { return (ns + 500) / 1000 }
	return Pause{us(p.P50), us(p.P99), us(p.P999), us(p.Max)}
}

// Succeeded reports whether the successor serves, or would. If not, the predecessor goes on.
func (h *Handoff) Succeeded() bool {
	switch h.Result {
	case protocol.ResultDone, protocol.ResultChecked, protocol.ResultRescued:
		return true
	}
	return false
}

func (r *run) status() Status {
	r.mu.Lock()
	predecessor := 0
	if r.predecessor != nil {
		predecessor = r.predecessor.peerRun
	}
	last := r.last
	r.mu.Unlock()
	s := Status{
		State: string(r.fsm.State()), Run: r.number, PID: os.Getpid(), Version: r.build.version, Sessions: r.srv.Len(),
		Listeners: r.listenerStatus(), LastHandoff: last, Predecessor: predecessor, Journal: "ok",
	}
	if err := r.journal.Err(); err != nil {
		s.Journal = err.Error()
	}
	return s
}

func (r *run) listenerStatus() []ListenerStatus {
	list := []ListenerStatus{}
	for _, l := range r.srv.Listeners() {
		list = append(list, ListenerStatus{l.URL, l.Addr.String()})
	}
	return list
}

func (r *run) setLast(h Handoff) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = &h
}

// since is the time passed since a monotonic time, in ms.
func since(began int64) float64 {
	return float64(time.Duration(mono.Now()-began)/time.Microsecond) / 1000
}

// newHistogram holds pauses of 1 µs to 10 minutes, in ns, with three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(10*time.Minute), 3)
}

func summary(h *hdrhistogram.Histogram) wire.Pause {
	if h.TotalCount() == 0 {
		return wire.Pause{} // nothing has moved; its Max would not be 0
	}
	return wire.Pause{P50: h.ValueAtQuantile(50), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max()}
}

// summaryOf is summary for the few pauses, in ns, of one batch. It sorts them.
func summaryOf(pauses []int64) wire.Pause {
	slices.Sort(pauses)
	at := func(q float64) int64 { return pauses[min(int(q*float64(len(pauses))), len(pauses)-1)] }
	return wire.Pause{P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: pauses[len(pauses)-1]}
}
