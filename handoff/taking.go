package handoff

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"baton/conn"
	"baton/fsm"
	"baton/handoff/protocol"
	"baton/handoff/wire"
	"baton/internal/mono"
	"baton/journal"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
)

// taking is a handoff from the successor's side. It lasts until the predecessor is gone.
type taking struct {
	conversation
	r       *run
	role    role
	peer    peer
	peerRun int // known from WELCOME on

	// These are guarded by conversation.mu.
	began   int64 // when the handoff was asked for; monotonic ns
	lender  int64 // when the first batch came; monotonic ns
	report  Handoff
	slate   *conn.Slate
	unnamed []*conn.Listener // inherited, and not among ours: closed when the predecessor is gone
	serving chan struct{}    // closed when we serve
	ended   chan protocol.End
	apart   chan struct{} // closed when the predecessor is gone
	isApart bool

	newest    *batch                  // given last
	measuring sync.Mutex              // guards what follows
	pauses    *hdrhistogram.Histogram // ns
}

// succeed makes this process the successor of the one at the other end of c. It returns when it serves, or cannot.
func (r *run) succeed(ctx context.Context, c *net.UnixConn, how role) error {
	t := &taking{
		r: r, role: how, pauses: newHistogram(), serving: make(chan struct{}), ended: make(chan protocol.End, 1), apart: make(chan struct{}),
	}
	t.machine, t.perform, t.timeout = protocol.NewSuccessor(), t.do, func(protocol.Timer) time.Duration { return r.cfg.Timeouts.Answer }
	t.side, t.note = journal.Successor, t.noteInput
	var err error
	if t.peer, err = identify(c); err != nil {
		c.Close()
		return fmt.Errorf("%w: the predecessor is not to be trusted: %w", ErrGaveUp, err)
	}
	ch, err := wire.NewChannel(c, r.cfg.Timeouts.Answer)
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
	select {
	case <-t.serving:
		r.ready(t.predecessorRun())
		go t.leaveWhenApart()
		return nil
	case end := <-t.ended:
		t.finish()
		if end.Result == protocol.ResultChecked {
			return errChecked
		}
		return fmt.Errorf("%w: %s", ErrGaveUp, end.Reason)
	case <-ctx.Done():
		t.put(protocol.Stop{})
		t.finish()
		return fmt.Errorf("%w: asked to stop", ErrGaveUp)
	}
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

// finish ends the conversation.
func (t *taking) finish() {
	t.r.talk.CompareAndSwap(&t.conversation, nil)
	t.r.setPredecessor(nil)
	t.stop()
	if t.slate != nil {
		t.r.srv.UseSlate(nil, nil)
		t.slate.Close()
	}
	t.peer.pidfd.Close()
}

func (t *taking) leaveWhenApart() {
	<-t.apart
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
}

// partFromPredecessor ends probation, if there is still a predecessor, and returns when it is gone. One that does not answer, since it is
// stopped or hangs, is an error, and so is the end of ctx. It may be tried again.
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
	srv := t.r.srv
	switch out := out.(type) {
	case protocol.Greeting:
		return t.send(t.hello())
	case protocol.Send:
		return t.send(out.Message)
	case protocol.Move:
		return t.r.move(out)
	case protocol.Adopt:
		return t.adopt(out.Welcome)
	case protocol.Borrow:
		return t.borrow(out.Lend)
	case protocol.Take:
		return t.take(out.Offer)
	case protocol.Own:
		t.own(out)
	case protocol.Drop:
		srv.Drop(out.IDs)
		t.r.drop(out.IDs)
	case protocol.Rescue:
		t.rescue(out.IDs)
	case protocol.Promote:
		return t.promote()
	case protocol.Accept:
		srv.Accept()
		t.nowServing()
	case protocol.GoRound:
		go t.goRound(out.N)
	case protocol.Parted:
		t.parted()
	case protocol.Report:
		t.r.log.Warn("handoff", "handoff", t.report.ID, "what", out.Text)
	case protocol.End:
		t.over = true
		t.ended <- out
	default:
		panic(fmt.Sprintf("handoff: successor cannot do %T", out))
	}
	return nil
}

// noteInput has in the journal what is not told by what follows from it.
func (t *taking) noteInput(in protocol.Input) {
	if died, ok := in.(protocol.PeerDied); ok {
		t.r.journal.Record(journal.PeerDied{Run: t.peerRun, PID: t.peer.pid, How: died.How})
		go t.r.ws.sweep()
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

func (t *taking) hello() *wire.Hello {
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return &wire.Hello{
		Versions: []uint8{wire.Version}, Run: t.r.number, Build: t.r.build.version, SHA256: t.r.build.sha256,
		NoFile: limit.Cur, Open: openFiles(), States: t.r.srv.StateVersions(), Takeover: t.role == roleTakeover,
	}
}

func openFiles() uint64 {
	entries, _ := os.ReadDir("/proc/self/fd")
	return uint64(len(entries))
}

func (t *taking) send(m wire.Message) []protocol.Input {
	switch m := m.(type) {
	case *wire.Bye:
		m.Seq, m.Head = t.r.journalHead()
	case *wire.Abort:
		t.r.journal.Record(journal.Abort{Reason: m.Reason})
	case *wire.Done:
		t.recordDone(m)
	}
	if err := t.channel.Send(m); err != nil {
		t.r.log.Warn("message not sent", "handoff", t.report.ID, "message", m.Type().String(), "error", err)
	}
	return nil
}

// adopt takes over the listeners that came with WELCOME, and opens those that are new.
func (t *taking) adopt(w *wire.Welcome) []protocol.Input {
	fds := t.received
	t.received = nil
	t.r.mu.Lock() // status reads it
	t.peerRun = w.Run
	t.r.mu.Unlock()
	t.began = w.Began
	t.report = Handoff{
		ID: w.Handoff, From: w.Run, To: t.r.number, PID: os.Getpid(), Version: t.r.build.version,
	}
	t.r.journal.SetPredecessor(w.Run)
	t.r.journal.Record(journal.Handoff{
		ID: w.Handoff, Role: journal.Successor, Trigger: string(t.role), PeerRun: w.Run, PeerPID: t.peer.pid, Check: w.Check,
	})
	t.r.journal.Record(journal.Welcome{Listeners: len(w.Listeners), Sessions: w.Sessions})
	if err := t.adoptListeners(w, fds); err != nil {
		t.r.journal.Record(journal.Refused{Reason: err.Error()})
		return []protocol.Input{protocol.NotAdopted{Reason: err.Error()}}
	}
	return []protocol.Input{protocol.Adopted{}}
}

// adoptListeners takes ownership of fds: a socket for each of the Welcome's listeners, the workspace's lock, and the slate.
func (t *taking) adoptListeners(w *wire.Welcome, fds []int) error {
	last := len(fds) - 2
	t.r.lock = os.NewFile(uintptr(fds[last]), "lock")
	var errs []error
	var err error
	if t.slate, err = conn.OpenSlate(fds[last+1]); err != nil {
		errs = append(errs, err)
	} else {
		t.r.srv.UseSlate(t.slate, w.States)
	}
	for i, fd := range fds[:last] {
		if errs != nil || w.Check {
			unix.Close(fd)
			continue
		}
		l, err := t.r.srv.AdoptListener(w.Listeners[i], fd)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t.r.journal.Record(journal.Listener{URL: l.URL, Addr: l.Addr.String(), How: journal.Inherited})
		if !slices.Contains(t.r.cfg.Listen, l.URL) {
			t.unnamed = append(t.unnamed, l)
		}
	}
	for _, url := range t.r.cfg.Listen {
		if errs == nil && !slices.Contains(w.Listeners, url) {
			if err := t.open(url, w.Check); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// open opens a listener that the predecessor does not have; for a dry run, it only sees whether it could.
func (t *taking) open(url string, check bool) error {
	if check {
		return explainListen(t.r.srv.TryListen(url))
	}
	l, err := t.r.srv.Listen(url)
	if err != nil {
		return explainListen(err)
	}
	t.r.journal.Record(journal.Listener{URL: l.URL, Addr: l.Addr.String(), How: journal.Bound})
	return nil
}

func (t *taking) borrow(m *wire.Lend) []protocol.Input {
	if t.lender == 0 {
		t.lender = mono.Now()
	}
	fds := t.received
	t.received = nil
	loans := make([]conn.Loan, len(fds))
	for i, fd := range fds {
		loans[i] = conn.Loan{ID: m.IDs[i], Cookie: m.Cookies[i], FD: fd, Slot: int32(m.Slots[i])}
	}
	if err := t.r.srv.Borrow(loans); err != nil {
		return []protocol.Input{protocol.NotBorrowed{Reason: err.Error()}}
	}
	return []protocol.Input{protocol.Borrowed{}}
}

// take checks and loads states. A session that cannot be taken is refused by itself.
func (t *taking) take(o *wire.Offer) []protocol.Input {
	took := protocol.Took{IDs: make([]conn.ID, 0, len(o.IDs))}
	states := make([]conn.State, len(o.IDs))
	for i, id := range o.IDs {
		err := states[i].Unmarshal(o.States[i])
		if err == nil && states[i].ID != id {
			err = fmt.Errorf("the state is of session %v", states[i].ID)
		}
		if err == nil {
			err = t.r.srv.Take(&states[i])
		}
		if err != nil {
			took.Refused = append(took.Refused, wire.Refusal{ID: id, Reason: err.Error()})
			continue
		}
		took.IDs = append(took.IDs, id)
	}
	for i := range states {
		t.r.adopt(&states[i])
	}
	t.r.journal.Record(takeEvent(o.Seq, len(took.IDs), took.Refused))
	return []protocol.Input{took}
}

// adopt notes a session that has come.
func (r *run) adopt(s *conn.State) {
	r.journal.Opened(journal.Session{
		ID: journal.ID(s.ID), Place: journal.Taken, Peer: s.Peer, Protocol: s.Protocol, Opened: time.Unix(0, s.Opened), Read: s.Read, Written: s.Written,
	})
}

// drop notes sessions that did not come after all.
func (r *run) drop(ids []conn.ID) {
	for _, id := range ids {
		r.journal.Closed(uint64(id), "stayed with the predecessor, or ended there", 0, 0)
	}
}

func takeEvent(seq, count int, refused []wire.Refusal) journal.Take {
	e := journal.Take{Batch: seq, Count: count}
	for _, r := range refused {
		e.Refused = append(e.Refused, journal.Refusal{Sessions: journal.IDsOf([]conn.ID{r.ID}), Reason: r.Reason})
	}
	return e
}

// own serves sessions from now on, and measures how long they stood still.
func (t *taking) own(o protocol.Own) {
	lates := make([]conn.Late, len(o.Give.Lates))
	var unreadable error
	for i, raw := range o.Give.Lates {
		unreadable = errors.Join(unreadable, cbor.Unmarshal(raw, &lates[i]))
	}
	b := &batch{seq: o.Give.Seq, frozenAt: o.FrozenAt, of: len(o.Give.IDs), full: make(chan struct{})}
	t.newest = b
	t.report.Moved += t.r.srv.Own(o.Give.IDs, lates, func(at int64) { t.resumed(b, at) })
	t.r.place(journal.Own, o.Give.IDs)
	if unreadable != nil { // bytes are missing from one of these streams, and nobody can tell from which
		for _, id := range o.Give.IDs {
			if c := t.r.srv.Get(id); c != nil {
				c.Close(fmt.Errorf("what was written to it during the handoff cannot be read: %w", unreadable))
			}
		}
	}
}

// A batch is sessions that were given together, on their way to their first turn here.
type batch struct {
	seq      int
	frozenAt int64 // monotonic ns
	of       int   // sessions
	pauses   []int64
	full     chan struct{} // closed when all have had their turn
}

// resumed is called by the sessions' loops.
func (t *taking) resumed(b *batch, at int64) {
	t.measuring.Lock()
	defer t.measuring.Unlock()
	pause := at - b.frozenAt
	b.pauses = append(b.pauses, pause)
	t.pauses.RecordValue(min(pause, t.pauses.HighestTrackableValue()))
	if len(b.pauses) == b.of {
		close(b.full)
		t.r.journal.Record(journal.Give{Batch: b.seq, Count: len(b.pauses), Pause: journalPause(summaryOf(b.pauses))})
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
	dead := t.peerRun
	t.r.background.Go(func() { t.r.mourn(dead, verdicts) })
	t.r.log.Error("the predecessor died", "handoff", t.report.ID, "rescued", kept, "lost", len(verdicts)-kept)
}

// promote makes this process the one that is found in the workspace.
func (t *taking) promote() []protocol.Input {
	t.waitResumed()
	if err := t.r.ws.point(t.r.number, os.Getpid()); err != nil {
		t.r.log.Error("this run serves, and the workspace does not show it", "error", err)
	}
	if t.role == roleChild {
		adoptStderr()
	}
	t.measuring.Lock()
	defer t.measuring.Unlock()
	return []protocol.Input{protocol.Promoted{Pause: summary(t.pauses)}}
}

// waitResumed waits, within reason, until the sessions given last have had their first turn, so that their pauses are known.
func (t *taking) waitResumed() {
	if t.newest == nil {
		return
	}
	select {
	case <-t.newest.full:
	case <-time.After(t.r.cfg.Timeouts.Answer / 4):
		t.r.log.Warn("a loop is slow, and the longest pauses are not known yet", "handoff", t.report.ID)
	}
}

// recordDone: we are about to tell the predecessor that we accept.
func (t *taking) recordDone(m *wire.Done) {
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
	if t.report.Result == "" {
		t.report.Result, t.report.Reason = protocol.ResultRescued, "the predecessor died"
		t.report.Total = since(t.began)
	}
	t.r.setLast(t.report)
	close(t.apart)
}
