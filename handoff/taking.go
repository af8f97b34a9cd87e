package handoff

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"baton/conn"
	"baton/fsm"
	"baton/handoff/protocol"
	"baton/handoff/wire"
	"baton/journal"
)

// taking is a handoff from the successor's side. It lasts until the predecessor is gone, or has everything back.
type taking struct {
	side
	role    role
	peer    peer
	peerRun int // known from WELCOME on

	// These are guarded by conversation.mu.
	began     int64            // when the handoff was asked for; monotonic ns
	unnamed   []*conn.Listener // inherited, and not among ours: closed when the predecessor is gone
	serving   chan struct{}    // closed when we serve
	isServing bool
	ended     chan protocol.End
	apart     chan struct{} // closed when the predecessor is gone, or we are about to be
	isApart   bool
	died      bool           // the predecessor
	mourned   bool           // what went with it is being named
	verdicts  []conn.Verdict // on what it had
}

// succeed makes this process the successor of the one at the other end of c. It returns when it serves, or cannot.
func (r *run) succeed(ctx context.Context, c *net.UnixConn, how role) error {
	t := &taking{
		side: side{r: r, back: true, pauses: newHistogram()}, role: how,
		serving: make(chan struct{}), ended: make(chan protocol.End, 1), apart: make(chan struct{}),
	}
	t.machine, t.perform, t.timeout = protocol.NewSuccessor(protocol.DefaultOptions), t.do, t.limit
	t.as, t.note = journal.Successor, t.noteInput
	var err error
	if t.peer, err = identify(c); err != nil {
		c.Close()
		return fmt.Errorf("%w: the predecessor is not to be trusted: %w", ErrGaveUp, err)
	}
	ch, err := wire.NewChannel(c, 0) // a predecessor that stands still is waited for: it would end us for a channel that is broken
	if err != nil {
		t.peer.pidfd.Close()
		return fmt.Errorf("%w: %w", ErrGaveUp, err)
	}
	if err := r.fsm.Move(ctx, fsm.Adopting, string(how)); err != nil {
		ch.Close()
		t.peer.pidfd.Close()
		return err
	}
	t.channel = ch
	t.start()
	r.talk.Store(&t.conversation)
	r.setPredecessor(t)
	t.put(protocol.Begin{})
	t.listen(ch)
	go func() {
		if waitEnd(t.peer.pidfd) {
			t.put(protocol.PeerDied{How: fmt.Sprintf("the predecessor (pid %d) ended", t.peer.pid)})
		}
	}()
	stop := ctx.Done()
	for {
		select {
		case <-t.serving:
			t.settle()
			r.ready(t.predecessorRun())
			go t.leaveWhenApart()
			return nil
		case end := <-t.ended:
			t.finish()
			t.peer.pidfd.Close()
			if end.Result == protocol.ResultChecked {
				return errChecked
			}
			return fmt.Errorf("%w: %s", ErrGaveUp, end.Reason)
		case <-stop:
			stop = nil
			t.put(protocol.Stop{})
		}
	}
}

func (t *taking) limit(timer protocol.Timer) time.Duration {
	limits := t.r.cfg.Timeouts
	switch timer {
	case protocol.RetryTimer:
		return limits.Retry
	case protocol.ReturnTimer: // what is left of it is for those that are told to end then
		return limits.Return * 3 / 4
	}
	return limits.Answer
}

func (r *run) setPredecessor(t *taking) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.predecessor = t
}

func (t *taking) predecessorRun() int {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	return t.peerRun
}

// finish ends the conversation. The pidfd stays the caller's.
func (t *taking) finish() {
	t.r.talk.CompareAndSwap(&t.conversation, nil)
	t.r.setPredecessor(nil)
	t.stop()
	if t.slate != nil {
		t.r.srv.UseSlate(nil, nil)
		t.slate.Close()
	}
}

func (t *taking) leaveWhenApart() {
	<-t.apart
	select {
	case end := <-t.ended:
		t.r.journal.EndHandoff()
		t.finish()
		t.peer.pidfd.Close()
		t.r.gaveBack <- end.Reason
		return
	default:
	}
	if len(t.unnamed) > 0 {
		// As long as the predecessor has copies, whoever dials waits in a queue that nobody accepts from.
		t.peer.pidfd.SetReadDeadline(time.Now().Add(t.r.cfg.Timeouts.Exit))
		waitEnd(t.peer.pidfd)
	}
	for _, l := range t.unnamed {
		t.r.srv.CloseListener(l)
		t.r.journal.Record(journal.Listener{URL: l.URL, Addr: l.Addr.String(), How: journal.Unlisted})
	}
	t.r.journal.EndHandoff()
	t.finish()
	go t.tidyUp()
}

// tidyUp does for a predecessor that is killed after its last word what it would have done itself: it removes its names, and has in the
// journal that its file has no end, and that those it had given at last are well.
func (t *taking) tidyUp() {
	defer t.peer.pidfd.Close()
	if t.peer.pid == os.Getpid() { // a run beside us in this process
		return
	}
	t.peer.pidfd.SetReadDeadline(time.Now().Add(t.r.cfg.Timeouts.Exit))
	if !waitEnd(t.peer.pidfd) {
		return
	}
	t.r.ws.sweep()
	t.mu.Lock()
	mourned, dead, were := t.mourned, t.peerRun, t.got
	t.mu.Unlock()
	if !mourned {
		t.r.mourn(dead, were, nil)
	}
}

// partFromPredecessor ends probation, if there is still a predecessor, and returns when it is gone. One that does not answer, since it is
// stopped or hangs, is an error, and so is the end of ctx: it may be tried again. So is one that has everything back: the workspace is its.
func (r *run) partFromPredecessor(ctx context.Context) error {
	r.mu.Lock()
	t := r.predecessor
	r.mu.Unlock()
	if t == nil {
		return nil
	}
	r.log.Info("parting from the predecessor", "predecessor", t.peerRun)
	t.put(protocol.Part{})
	limit := time.NewTimer(t.partingLimit())
	defer limit.Stop()
	select {
	case <-t.apart:
		if t.hasGivenBack() {
			return fmt.Errorf("run %d has everything back, and serves; this one is about to exit", t.peerRun)
		}
	case <-ctx.Done():
		return fmt.Errorf("asked to stop while parting from run %d", t.peerRun)
	case <-limit.C:
		return fmt.Errorf("run %d (pid %d), the predecessor of this one, does not answer, and still has copies of the sockets: "+
			"see whether it is stopped (SIGCONT), or end it", t.peerRun, t.peer.pid)
	}
	for {
		r.mu.Lock()
		gone := r.predecessor == nil
		r.mu.Unlock()
		if gone {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

func (t *taking) hasGivenBack() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.report.Result == protocol.ResultReturned
}

// partingLimit is how long a predecessor that is well may take to leave. It waits for its stragglers.
func (t *taking) partingLimit() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	limits := t.r.cfg.Timeouts
	if t.report.Stragglers == 0 {
		return limits.Answer
	}
	return limits.Drain + limits.Stop + limits.Answer
}

// do performs what the machine says.
func (t *taking) do(out protocol.Output) []protocol.Input {
	if answers, done := t.act(out); done {
		return answers
	}
	switch out := out.(type) {
	case protocol.Greeting:
		t.send(t.hello())
	case protocol.Send:
		if done, ok := out.Message.(*wire.Done); ok {
			t.recordDone(done)
		}
		t.send(out.Message)
	case protocol.Adopt:
		return t.adopt(out.Welcome)
	case protocol.Rescue:
		t.rescue(out.IDs)
	case protocol.Recall:
		t.recall(out.IDs)
	case protocol.Promote:
		return t.promote()
	case protocol.Accept:
		t.r.srv.Accept()
		t.nowServing()
	case protocol.GoRound:
		go t.goRound(out.N)
	case protocol.Parted:
		t.parted()
	case protocol.End:
		t.over = true
		t.ended <- out
		if out.Result == protocol.ResultReturned {
			t.gaveBack(out)
		}
	default:
		panic(fmt.Sprintf("handoff: successor cannot do %T", out))
	}
	return nil
}

// noteInput has in the journal what is not told by what follows from it.
func (t *taking) noteInput(in protocol.Input) {
	switch in := in.(type) {
	case protocol.PeerDied:
		t.died = true
		t.r.journal.Record(journal.PeerDied{Run: t.peerRun, PID: t.peer.pid, How: in.How})
		go t.r.ws.sweep()
	case protocol.Received:
		switch m := in.Message.(type) {
		case *wire.Take:
			t.r.journal.Record(takeEvent(m.Seq, len(m.IDs), m.Refused, true))
		case *wire.Closed:
			t.endedThere(m.IDs)
		case *wire.Abort:
			t.turned = true
		}
	}
	t.r.noteBye(in)
}

// noteBye ties our journal to the other run's.
func (r *run) noteBye(in protocol.Input) {
	received, ok := in.(protocol.Received)
	if !ok {
		return
	}
	if bye, ok := received.Message.(*wire.Bye); ok && len(bye.Head) == len(journal.Hash{}) {
		r.journal.Record(journal.Bye{PeerSeq: bye.Seq, PeerHead: journal.Hash(bye.Head)})
	}
}

// rescue keeps what the predecessor had lent and not given when it died, as far as it can be proved.
func (t *taking) rescue(ids []conn.ID) {
	verdicts := t.r.srv.Rescue(ids)
	for _, v := range verdicts {
		t.r.journal.Opened(journal.Session{
			ID: v.ID, Place: journal.Taken, Peer: v.Info.Peer, Protocol: v.Info.Protocol, Opened: v.Info.Opened, Read: v.Info.Read, Written: v.Info.Written,
		})
	}
	kept := t.r.recordVerdicts(journal.Rescued, verdicts, t.peerRun)
	t.report.Moved += kept
	t.verdicts = append(t.verdicts, verdicts...)
	t.r.log.Error("the predecessor died", "handoff", t.report.ID, "rescued", kept, "lost", len(verdicts)-kept)
}

// recall takes back what the predecessor had been given back when it died.
func (t *taking) recall(ids []conn.ID) {
	verdicts := t.r.srv.Recall(ids)
	kept := t.r.recordVerdicts(journal.Recalled, verdicts, t.peerRun)
	t.verdicts = append(t.verdicts, verdicts...)
	t.r.log.Error("the predecessor died", "handoff", t.report.ID, "recalled", kept, "lost", len(verdicts)-kept)
}

// gaveBack: the predecessor has everything again, and this process exits.
func (t *taking) gaveBack(end protocol.End) {
	t.report.Result, t.report.Reason = end.Result, end.Reason
	t.r.setLast(t.report)
	t.r.handed.Store(true)
	t.isApart = true
	close(t.apart)
}

// promote makes this process the one that is found in the workspace.
func (t *taking) promote() []protocol.Input {
	t.waitResumed()
	if err := t.r.ws.point(t.r.number, os.Getpid()); err != nil {
		t.r.log.Error("this run serves, and the workspace does not show it", "error", err)
	}
	if t.role == roleChild && !t.isServing {
		adoptStderr()
	}
	t.measuring.Lock()
	defer t.measuring.Unlock()
	return []protocol.Input{protocol.Promoted{Pause: summary(t.pauses)}}
}

// recordDone: we are about to tell the predecessor that we accept, or that it has everything back.
func (t *taking) recordDone(m *wire.Done) {
	if t.turned {
		t.r.journal.Record(journal.Returned{Moved: m.Moved})
		return
	}
	t.report.Result, t.report.Stragglers, t.report.Pause = protocol.ResultDone, m.Stragglers, pauseOf(m.Pause)
	t.report.Total = since(t.began)
	if t.lender != 0 {
		t.report.Took = since(t.lender)
	}
	t.r.setLast(t.report)
	t.r.journal.Record(journal.Done{
		Moved: m.Moved, Stragglers: m.Stragglers, Pause: journalPause(m.Pause), TookMS: t.report.Took, TotalMS: t.report.Total,
	})
}

func (t *taking) nowServing() {
	if t.isServing { // it has served before, and was about to give back
		return
	}
	t.isServing = true
	close(t.serving)
}

// goRound answers the predecessor's question whether our loops go round. A loop that does not is an answer as well: none.
func (t *taking) goRound(n int) {
	ctx, cancel := context.WithTimeout(context.Background(), t.r.cfg.Timeouts.Answer)
	defer cancel()
	if err := t.r.srv.Beat(ctx); err != nil {
		t.r.log.Error("beat missed", "error", err)
		return
	}
	t.put(protocol.WentRound{N: n})
}

// parted: the predecessor is gone.
func (t *taking) parted() {
	if t.isApart {
		return
	}
	t.isApart = true
	if t.died { // also when it had nothing to do with us: there may be sessions that it had not even lent
		t.mourned = true
		dead, were, verdicts := t.peerRun, t.got, t.verdicts
		t.r.background.Go(func() { t.r.mourn(dead, were, verdicts) })
	}
	if t.report.Result == "" {
		t.report.Result, t.report.Reason = protocol.ResultRescued, "the predecessor died"
		t.report.Total = since(t.began)
	}
	t.r.setLast(t.report)
	close(t.apart)
}
