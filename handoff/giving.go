package handoff

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"baton/conn"
	"baton/fsm"
	"baton/handoff/protocol"
	"baton/handoff/wire"
	"baton/internal/mono"
	"baton/journal"
)

// giving is a handoff from the predecessor's side.
type giving struct {
	side
	req   *request
	began int64 // monotonic ns

	// These are guarded by conversation.mu.
	pidfd *os.File // of the successor; nil = there is none
	peer  *visitor

	expected int // pid of the child whose HELLO we wait for; 0 = none
	done     chan protocol.End
	reported bool
}

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
	r.journal.Record(journal.Handoff{
		ID: g.report.ID, Role: journal.Predecessor, Trigger: req.trigger, Binary: g.command()[0], Check: req.check,
	})
	defer r.journal.EndHandoff()
	if err := r.fsm.Move(ctx, fsm.Preparing, req.trigger); err != nil {
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

// release closes what the handoff alone needed.
func (g *giving) release() {
	if g.slate != nil {
		g.r.srv.UseSlate(nil, nil)
		g.slate.Close()
	}
	if g.pidfd != nil {
		g.pidfd.Close()
	}
	if g.peer != nil {
		g.peer.peer.pidfd.Close() // the same one, or another of the same process
	}
}

func (g *giving) command() []string {
	if g.req.binary != "" {
		return append([]string{g.req.binary}, g.r.cfg.Command[1:]...)
	}
	return g.r.cfg.Command
}

func (r *run) setCurrent(g *giving) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = g
}

// bring gets a successor to say HELLO: the one that has come, or one that is started now.
func (g *giving) bring() {
	if os.Getpid() == 1 {
		g.put(protocol.PeerDied{How: "this process is PID 1, and when it exits the kernel ends everything in its namespace, the successor too; " +
			"start the server under an init process"})
		if g.req.visitor != nil {
			g.req.visitor.turnAway("the server is PID 1: its exit would end every process of its namespace")
		}
		return
	}
	if v := g.req.visitor; v != nil {
		go func() {
			if waitEnd(v.peer.pidfd) {
				g.hearOut()
				g.put(protocol.PeerDied{How: fmt.Sprintf("the successor (pid %d) ended", v.peer.pid)})
			}
		}()
		g.admit(v)
		return
	}
	c, err := g.startChild()
	if err != nil {
		g.put(protocol.PeerDied{How: err.Error()})
		return
	}
	go func() {
		how := c.wait()
		g.hearOut()
		g.put(protocol.PeerDied{How: how})
	}()
}

// startChild starts a successor. It may say HELLO before we know its pid: expects waits.
func (g *giving) startChild() (*child, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, err := startChild(g.command(), g.r.number)
	if err == nil {
		g.pidfd, g.expected, g.report.PID = c.pidfd, c.cmd.Process.Pid, c.cmd.Process.Pid
	}
	return c, err
}

// expects takes a visitor if it is the process that we have started.
func (g *giving) expects(v *visitor) bool {
	g.mu.Lock()
	ours := g.expected != 0 && v.peer.pid == g.expected && g.peer == nil
	g.mu.Unlock()
	if ours {
		g.admit(v)
	}
	return ours
}

// admit begins the conversation with a visitor.
func (g *giving) admit(v *visitor) {
	g.mu.Lock()
	g.peer = v
	if g.pidfd == nil {
		g.pidfd, g.report.PID = v.peer.pidfd, v.peer.pid
	}
	g.channel = v.channel
	g.came(protocol.Received{Message: v.hello})
	g.mu.Unlock()
	g.listen(v.channel)
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

func (g *giving) limit(t protocol.Timer) time.Duration {
	limits := g.r.cfg.Timeouts
	switch t {
	case protocol.HelloTimer:
		return limits.Hello
	case protocol.TotalTimer:
		return limits.Handoff
	case protocol.RetryTimer:
		return limits.Retry
	case protocol.DrainTimer:
		return limits.Drain
	case protocol.FinishTimer:
		return limits.Stop
	case protocol.ProbationTimer:
		return limits.Probation
	case protocol.BeatTimer:
		return limits.Beat
	case protocol.ReturnTimer:
		return limits.Return
	case protocol.ExitTimer:
		return limits.Exit
	}
	return limits.Answer
}

// do performs what the machine says.
func (g *giving) do(out protocol.Output) []protocol.Input {
	if answers, done := g.act(out); done {
		return answers
	}
	switch out := out.(type) {
	case protocol.Send:
		g.say(out.Message)
	case protocol.Greet:
		return g.greet(out.Hello)
	case protocol.Intend:
		g.r.journal.Intend(journal.Lend{Batch: out.Batch, Sessions: journal.IDsOf(out.IDs)}, func(err error) {
			if err != nil {
				g.post(protocol.NotJournaled{Batch: out.Batch, Reason: err.Error()})
				return
			}
			g.post(protocol.Journaled{Batch: out.Batch})
		})
	case protocol.Release:
		g.r.srv.Release(out.IDs...)
	case protocol.Accept:
		g.acceptAgain()
	case protocol.Handed:
		g.handed(out)
	case protocol.Fence:
		g.fence(out.Reason)
	case protocol.Recall:
		g.recall(out.IDs)
	case protocol.End:
		g.over = true
		g.done <- out
	default:
		panic(fmt.Sprintf("handoff: predecessor cannot do %T", out))
	}
	return nil
}

// noteInput has in the journal what is not told by what follows from it.
func (g *giving) noteInput(in protocol.Input) {
	switch in := in.(type) {
	case protocol.Broken:
		if g.peer.peer.pid == os.Getpid() { // a run beside us in this process has no other end
			g.post(protocol.PeerDied{How: "the successor hung up"})
		}
	case protocol.PeerDied:
		g.r.journal.Record(journal.PeerDied{Run: g.report.To, PID: g.report.PID, How: in.How})
		go g.r.ws.sweep()
	case protocol.Received:
		switch m := in.Message.(type) {
		case *wire.Take:
			g.r.journal.Record(takeEvent(m.Seq, len(m.IDs), m.Refused, false))
		case *wire.Done:
			if g.turned {
				g.r.journal.Record(journal.Returned{Moved: m.Moved})
			}
		case *wire.Abort:
			g.turned = true
			if m.Code != wire.Checked && !g.aborted {
				g.r.journal.Record(journal.Refused{Reason: m.Reason})
			}
			g.noteAbort(m.Reason)
		}
	}
	g.r.noteBye(in)
}

func (g *giving) say(m wire.Message) {
	var fds []int
	switch m := m.(type) {
	case *wire.Welcome:
		for _, l := range g.r.srv.Listeners() {
			fds = append(fds, l.FD())
		}
		fds = append(fds, int(g.r.lock.Fd()), g.slate.FD())
		g.r.journal.Record(journal.Welcome{Listeners: len(m.Listeners), Sessions: m.Sessions})
	case *wire.Abort:
		if g.req.check && m.Code == wire.Failed && !g.aborted {
			g.r.journal.Record(journal.Refused{Reason: m.Reason}) // a dry run that is aborted by us has failed
		}
	}
	g.send(m, fds...)
}

func (r *run) journalHead() (uint64, []byte) {
	seq, head := r.journal.Head()
	return seq, head[:]
}

// greet decides whether a successor will do, before anything has moved.
func (g *giving) greet(h *wire.Hello) []protocol.Input {
	r := g.r
	g.report.To, g.report.Version = h.Run, h.Build
	r.journal.Record(journal.Hello{
		Run: h.Run, PID: g.peer.peer.pid, Version: h.Build, SHA256: fmt.Sprintf("%x", h.SHA256), Wire: ints(h.Versions), Protocols: states(h.States),
	})
	if err := g.fit(h); err != nil {
		r.journal.Record(journal.Refused{Reason: err.Error()})
		if g.req.visitor != nil {
			// It was given nothing, so nobody has to wait until it ends; and it is not ours to end.
			g.post(protocol.PeerDied{How: err.Error()})
		}
		return []protocol.Input{protocol.Unfit{Reason: err.Error()}}
	}
	g.channel.SetVersion(wire.Version)
	w := &wire.Welcome{Version: wire.Version, Run: r.number, Handoff: g.report.ID, Began: g.began, States: g.versions}
	for _, l := range r.srv.Listeners() {
		w.Listeners = append(w.Listeners, l.URL)
	}
	r.talk.Store(&g.conversation) // from here new sessions are noted: none falls between the two
	ids := r.srv.IDs()
	slices.Sort(ids)
	w.Sessions = len(ids)
	return []protocol.Input{protocol.Greeted{Welcome: w, Sessions: ids}}
}

// spareSlots is how many sessions, beside twice those that are there, may be opened during the handoff and have a place on the slate.
const spareSlots = 8192

// spareFDs is how many descriptors a successor needs beside those of sessions: listeners, journal, loops, log.
const spareFDs = 64

func (g *giving) fit(h *wire.Hello) (err error) {
	if !slices.Contains(h.Versions, wire.Version) {
		return fmt.Errorf("the successor speaks versions %v of the handoff, this run speaks %d", h.Versions, wire.Version)
	}
	if g.versions, err = g.r.srv.Negotiate(h.States); err != nil {
		return fmt.Errorf("the successor cannot take every session: %w", err)
	}
	if g.slate, err = conn.NewSlate(2*g.r.srv.Len() + spareSlots); err != nil {
		return fmt.Errorf("no slate can be made: %w", err)
	}
	g.r.srv.UseSlate(g.slate, g.versions)
	if need := uint64(g.r.srv.Len()) + h.Open + spareFDs; h.NoFile < need {
		return fmt.Errorf("the successor may open %d files and needs %d: raise its limit (RLIMIT_NOFILE)", h.NoFile, need)
	}
	return nil
}

func ints(bytes []uint8) (list []int) {
	for _, b := range bytes {
		list = append(list, int(b))
	}
	return list
}

func states(versions map[string][]int) (list []string) {
	for name, v := range versions {
		list = append(list, fmt.Sprintf("%s %v", name, v))
	}
	slices.Sort(list)
	return list
}

// handed: the successor accepts.
func (g *giving) handed(h protocol.Handed) {
	g.report.Pause, g.report.Took, g.report.Stragglers = pauseOf(h.Pause), since(g.lender), g.r.srv.Len()
	g.report.Result, g.report.Total, g.reported = protocol.ResultDone, since(g.began), true
	if g.lender == 0 {
		g.report.Took = 0
	}
	g.r.handed.Store(true)
	g.r.setLast(g.report)
	g.r.journal.Record(journal.Done{
		Moved: g.report.Moved, Stragglers: g.report.Stragglers, Pause: journalPause(h.Pause), TookMS: g.report.Took, TotalMS: g.report.Total,
	})
	g.req.result <- g.report
}

func journalPause(p wire.Pause) *journal.Pause {
	us := pauseOf(p)
	return &journal.Pause{P50: us.P50, P99: us.P99, P999: us.P999, Max: us.Max}
}

// fence ends the successor. The intent is in the journal first, if it takes it.
func (g *giving) fence(reason string) {
	if err := g.r.commit(journal.Fence{PID: g.report.PID}); err != nil {
		g.r.log.Error("the fence is not in the journal", "error", err)
	}
	g.r.log.Error("the successor is ended", "handoff", g.report.ID, "pid", g.report.PID, "reason", reason)
	if g.pidfd == nil {
		return
	}
	if err := kill(g.pidfd); err != nil {
		g.r.log.Error("the successor cannot be ended", "pid", g.report.PID, "error", err)
	}
}

// acceptAgain takes the workspace back, and accepts.
func (g *giving) acceptAgain() {
	g.r.handed.Store(false)
	if err := g.r.ws.point(g.r.number, os.Getpid()); err != nil {
		g.r.log.Error("the workspace cannot be taken back", "error", err)
	}
	g.r.srv.Accept()
}

// recall takes back the sessions that were the successor's when it died, as far as they can be proved.
func (g *giving) recall(ids []conn.ID) {
	verdicts := g.r.srv.Recall(ids)
	kept := g.r.recordVerdicts(journal.Recalled, verdicts, g.report.To)
	dead := g.report.To
	g.r.background.Go(func() { g.r.mourn(dead, verdicts) })
	g.r.log.Error("the successor died", "handoff", g.report.ID, "recalled", kept, "lost", len(verdicts)-kept)
}
