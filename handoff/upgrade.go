package handoff

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"baton/fsm"
	"baton/handoff/protocol"
	"baton/internal/mono"
	"baton/journal"
)

// An upgrade, as whoever asks for it sees it.

// A request asks for an upgrade. progress and result are for whoever asked.
type request struct {
	trigger string
	binary  string // "" = as we were started
	check   bool
	visitor *visitor // the successor, if it came of its own accord

	progress chan Progress // dropped if nobody reads
	result   chan Handoff  // capacity 1
	refused  chan error    // capacity 1
}

// Progress is how far a handoff is.
type Progress struct {
	State string `json:"state"`
	Moved int    `json:"moved"`
	Of    int    `json:"of"`
}

func newRequest(trigger string) *request {
	return &request{trigger: trigger, progress: make(chan Progress, 1), result: make(chan Handoff, 1), refused: make(chan error, 1)}
}

// ask brings a request to the goroutine that owns the run's life. The error says why it cannot be taken now.
func (r *run) ask(req *request) error {
	if r.stopping.Load() || !r.busy.CompareAndSwap(false, true) {
		return r.busyNow()
	}
	if r.fsm.State() != fsm.Serving {
		r.busy.Store(false)
		return r.busyNow()
	}
	select {
	case r.requests <- req:
		return nil
	case <-time.After(r.cfg.Timeouts.Answer):
		r.busy.Store(false)
		return fmt.Errorf("the server does not answer: it is %s", r.fsm.State())
	}
}

func (r *run) busyNow() error {
	if r.stopping.Load() {
		return fmt.Errorf("run %d was asked to stop, and is about to exit", r.number)
	}
	if r.handed.Load() {
		return fmt.Errorf("%w: run %d has handed over and is about to exit", ErrBusy, r.number)
	}
	return fmt.Errorf("%w (run %d is %s); wait until it is over, then try again", ErrBusy, r.number, r.fsm.State())
}

// upgrade hands over to a successor. It reports whether this process is not needed any more.
func (r *run) upgrade(ctx context.Context, req *request) (gone bool) {
	g := &giving{
		side: side{r: r, pauses: newHistogram()}, req: req, began: mono.Now(),
		done: make(chan protocol.End, 1),
	}
	g.report = Handoff{ID: fmt.Sprintf("%d.%s", r.number, strconv.FormatInt(time.Now().UnixMilli(), 36)), From: r.number}
	g.machine, g.perform, g.timeout = protocol.NewPredecessor(protocol.DefaultOptions), g.do, g.limit
	g.as, g.note = journal.Predecessor, g.noteInput
	r.log.Info("upgrade", "handoff", g.report.ID, "trigger", req.trigger, "binary", g.command()[0], "check", req.check)
	if err := r.partFromPredecessor(ctx); err != nil {
		g.decline(err)
		return false
	}
	r.mend()
	r.journal.Record(journal.Handoff{
		ID: g.report.ID, Role: journal.Predecessor, Trigger: req.trigger, Binary: g.command()[0], Check: req.check,
	})
	defer r.journal.EndHandoff()
	if err := r.fsm.Move(ctx, fsm.Preparing, req.trigger); err != nil {
		r.journal.Record(journal.Refused{Reason: err.Error()}) // for when the disk is well again
		g.decline(err)
		return false
	}
	g.start()
	g.put(protocol.Begin{Check: req.check})
	r.setCurrent(g)
	g.bring()
	end := g.await(ctx)
	r.setCurrent(nil)
	r.talk.Store(nil)
	g.stop()
	g.waitResumed() // what has come back is part of the story
	g.release()
	g.tell(end.Result, end.Reason)
	return end.Result == protocol.ResultDone
}

// decline ends a handoff that was not begun.
func (g *giving) decline(err error) {
	g.tell(protocol.ResultRolledBack, err.Error())
	if g.req.visitor != nil {
		g.req.visitor.turnAway(err.Error())
	}
}

func (r *run) setCurrent(g *giving) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = g
}

// await waits for the end of the handoff, and tells whoever asked how far it is.
func (g *giving) await(ctx context.Context) protocol.End {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	stop := ctx.Done()
	for {
		select {
		case end := <-g.done:
			return end
		case <-stop:
			stop = nil
			g.put(protocol.Stop{})
		case <-g.r.usr2:
			g.r.log.Warn("SIGUSR2 ignored", "error", g.r.busyNow())
		case <-tick.C:
			g.mu.Lock()
			p := Progress{State: string(g.r.fsm.State()), Moved: g.report.Moved, Of: g.report.Moved + g.r.srv.Len()}
			g.mu.Unlock()
			select {
			case g.req.progress <- p:
			default:
			}
		}
	}
}

// tell makes the outcome known, once: at DONE, or when the handoff has failed. What happens in probation is told by the journal and by
// -status.
func (g *giving) tell(result protocol.Result, reason string) {
	g.mu.Lock()
	g.report.Result, g.report.Reason = result, reason
	if !g.reported {
		g.report.Total = since(g.began)
	}
	h, again := g.report, g.reported
	g.reported = true
	g.mu.Unlock()
	g.r.setLast(h)
	if !again {
		g.req.result <- h
	}
	g.r.log.Info("handoff is over", "handoff", h.ID, "result", string(result), "reason", reason, "moved", h.Moved)
}
