package handoff

import (
	"fmt"
	"os"
	"slices"

	"baton/conn"
	"baton/handoff/protocol"
	"baton/handoff/wire"
	"baton/journal"

	"golang.org/x/sys/unix"
)

// What comes with WELCOME: the listeners, the workspace's lock and the slate.

// adopt takes over the listeners that came with WELCOME, and opens those that are new.
func (t *taking) adopt(w *wire.Welcome) []protocol.Input {
	t.r.mu.Lock() // status reads it
	t.peerRun = w.Run
	t.r.mu.Unlock()
	t.began, t.versions = w.Began, w.States
	t.report = Handoff{
		ID: w.Handoff, From: w.Run, To: t.r.number, PID: os.Getpid(), Version: t.r.build.version,
	}
	t.r.journal.SetPredecessor(w.Run)
	t.r.journal.Record(journal.Handoff{
		ID: w.Handoff, Role: journal.Successor, Trigger: string(t.role), PeerRun: w.Run, PeerPID: t.peer.pid, Check: w.Check,
	})
	t.r.journal.Record(journal.Welcome{Listeners: len(w.Listeners), Sessions: w.Sessions})
	if err := t.takeOver(w); err != nil {
		t.r.journal.Record(journal.Refused{Reason: err.Error()})
		return []protocol.Input{protocol.NotAdopted{Reason: err.Error()}}
	}
	return []protocol.Input{protocol.Adopted{}}
}

// takeOver refuses a version that was not offered. The descriptors are left to the conversation then, which closes them.
func (t *taking) takeOver(w *wire.Welcome) error {
	if w.Version != wire.Version {
		return fmt.Errorf("the predecessor chose version %d of the handoff, this run speaks %d", w.Version, wire.Version)
	}
	fds := t.received
	t.received = nil
	return t.adoptListeners(w, fds)
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
