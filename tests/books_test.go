package tests

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/journal"
)

// The books, in which every lost session has to be named.

// books is what the journals of all runs say of sessions.
type books struct {
	peers map[journal.ID]netip.AddrPort
	named map[netip.AddrPort]string // closed, by whoever served it or found it lost, with the reason
	logs  []journal.RunLog
}

func (s *space) books() *books {
	b := &books{peers: map[journal.ID]netip.AddrPort{}, named: map[netip.AddrPort]string{}, logs: s.journals()}
	for _, l := range b.logs {
		for _, r := range l.Sessions {
			if r.Peer.IsValid() {
				b.peers[r.ID] = r.Peer
			}
		}
		for _, r := range l.Closed {
			if r.Peer.IsValid() {
				b.peers[r.ID] = r.Peer
			}
		}
	}
	for _, l := range b.logs {
		for _, r := range l.Closed {
			b.name(r.ID, r.Reason)
		}
		for _, e := range l.Events {
			switch d := e.Data.(type) {
			case journal.Closed:
				b.name(d.Session, d.Reason)
			case journal.Verdict:
				if strings.HasPrefix(d.Verdict, "lost with") {
					for _, id := range d.Sessions {
						b.name(journal.ID(id), d.Verdict)
					}
				}
			}
		}
	}
	return b
}

// name notes why a session ended. Those that their clients ended are not asked for.
func (b *books) name(id journal.ID, reason string) {
	if reason != "end of stream" && !strings.HasPrefix(reason, "stayed with") {
		b.named[b.peers[id]] = reason
	}
}

// explain says of each loss why, and fails the test where no journal does. Who has just survived another run may still be reading its file.
// stood is for how long a process may have been stopped before it died: what it had just accepted is lost so much later.
func (s *space) explain(lost []loss, stood time.Duration) *books {
	s.t.Helper()
	var b *books
	var unnamed []loss
	for range 40 {
		b = s.books()
		if unnamed = b.unnamed(lost, stood); len(unnamed) == 0 {
			return b
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, l := range unnamed {
		s.t.Errorf("lost, and nobody says why: %s connection %s, open for %v: %s\n%s", l.kind, l.local, l.open, l.what, b.about(l.peer()))
	}
	return b
}

// unnamed leaves out connections that were accepted in the last moment of a run, and were not in its file yet: nobody else knew them.
func (b *books) unnamed(lost []loss, stood time.Duration) []loss {
	return slices.DeleteFunc(slices.Clone(lost), func(l loss) bool {
		_, named := b.named[l.peer()]
		young := 300 * time.Millisecond
		if l.churn {
			young = time.Second
		}
		return named || l.open < young+stood
	})
}

// about is all that the journals say of a client's session.
func (b *books) about(peer netip.AddrPort) string {
	var text strings.Builder
	for _, l := range b.logs {
		fmt.Fprintf(&text, "run %d (live %v, sealed %v, last event %d):\n", l.Run.Number, l.Live, l.Sealed, l.Last().Seq)
		for _, r := range l.Sessions {
			if r.Peer == peer {
				fmt.Fprintf(&text, "  open: %+v\n", r)
			}
		}
		for _, r := range l.Closed {
			if r.Peer == peer {
				fmt.Fprintf(&text, "  closed: %+v\n", r)
			}
		}
		for _, e := range l.Events {
			fmt.Fprintf(&text, "  %d %v %+v\n", e.Seq, time.Duration(e.Mono), e.Data)
		}
	}
	return text.String()
}

// checkOneServes fails the test if two runs served at the same time, as far as their journals know. (Their clocks are the same to some µs.)
func (b *books) checkOneServes(t testing.TB) {
	t.Helper()
	type term struct {
		run        int
		begin, end int64
	}
	const now = 1<<63 - 1
	died := map[int]int64{}
	for _, l := range b.logs {
		for _, e := range l.Events {
			if d, ok := e.Data.(journal.PeerDied); ok && died[d.Run] == 0 {
				died[d.Run] = e.Mono
			}
		}
	}
	var terms []term
	for _, l := range b.logs {
		at := -1
		for _, e := range l.Events {
			m, ok := e.Data.(journal.Move)
			if !ok {
				continue
			}
			serves := m.To == "Serving" || m.To == "Preparing" || m.To == "Transferring"
			switch {
			case serves && at < 0:
				at = len(terms)
				terms = append(terms, term{l.Run.Number, e.Mono, now})
			case !serves && at >= 0:
				terms[at].end = e.Mono
				at = -1
			}
		}
		if at >= 0 && !l.Live {
			if terms[at].end = l.Last().Mono; died[l.Run.Number] > 0 {
				terms[at].end = died[l.Run.Number]
			}
		}
	}
	slices.SortFunc(terms, func(a, b term) int { return int(max(-1, min(1, a.begin-b.begin))) })
	for i := 1; i < len(terms); i++ {
		if terms[i].begin < terms[i-1].end-int64(100*time.Microsecond) && terms[i].run != terms[i-1].run {
			t.Errorf("run %d began to serve %v before run %d had ceased to", terms[i].run, time.Duration(terms[i-1].end-terms[i].begin), terms[i-1].run)
		}
	}
}
