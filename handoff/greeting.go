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

// The greeting: what a successor says about itself, and whether it will do.

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
			// It was given nothing, so nobody has to wait until it ends, nor until it hangs up; and it is not ours to end.
			g.post(protocol.PeerDied{How: err.Error()})
			g.post(protocol.Broken{Reason: err.Error()})
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
	if err := sameClock(g.peer.peer.pid); err != nil {
		return err
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
