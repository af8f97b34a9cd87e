package handoff

import (
	"fmt"
	"os"
	"time"

	"baton/conn"
	"baton/handoff/protocol"
	"baton/handoff/wire"
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
		if out.Result == protocol.ResultRolledBack && len(g.got) > 0 {
			g.mourn() // it had given everything back, and may have died before it noted that
		}
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
		case *wire.Closed:
			g.endedThere(m.IDs)
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

// handed: the successor accepts.
func (g *giving) handed(h protocol.Handed) {
	g.report.Pause, g.report.Took, g.report.Stragglers = pauseOf(h.Pause), since(g.lender), g.r.srv.Len()
	g.report.Result, g.report.Total, g.reported = protocol.ResultDone, since(g.began), true
	if g.lender == 0 {
		g.report.Took = 0
	}
	g.detach()
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
	g.mourn(verdicts...)
	g.r.log.Error("the successor died", "handoff", g.report.ID, "recalled", kept, "lost", len(verdicts)-kept)
}

// mourn has the sessions named that went with the successor. It does not wait for that.
func (g *giving) mourn(verdicts ...conn.Verdict) {
	dead, were := g.report.To, g.got
	g.r.background.Go(func() { g.r.mourn(dead, were, verdicts) })
}
