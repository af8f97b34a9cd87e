package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// tape is a run's log, written by hand: events at given times, chained as the real ones are.
type tape struct {
	RunLog
	handoff string
}

var bootTime = time.Date(2026, 11, 24, 21, 0, 0, 0, time.UTC)

func run(number int, started time.Duration, version string) *tape {
	r := Run{Number: number, PID: 800 + 13*number, Version: version, Go: "go1.26.8", BootID: "boot-1", Started: bootTime.Add(started)}
	t := &tape{RunLog: RunLog{Run: r}}
	return t.at(started, Started{Run: r})
}

// at appends an event at a time since the boot.
func (t *tape) at(mono time.Duration, d Data) *tape {
	if h, ok := d.(Handoff); ok {
		t.handoff = h.ID
	}
	last := t.Last()
	e := Event{Seq: last.Seq + 1, Wall: bootTime.Add(mono), Mono: int64(mono), Handoff: t.handoff, Kind: d.Kind(), Prev: last.Hash, Data: d}
	body, err := encodeData(d)
	if err != nil {
		panic(err)
	}
	b, err := encodeEvent(e, body)
	if err != nil {
		panic(err)
	}
	if e, err = decodeEvent(b); err != nil {
		panic(err)
	}
	t.Events = append(t.Events, e)
	_, t.Sealed = d.(Sealed)
	return t
}

func (t *tape) sessions(n int, p Place) *tape {
	for range n {
		t.Sessions = append(t.Sessions, Session{ID: id(t.Run.Number, len(t.Sessions)), Place: p})
	}
	return t
}

const (
	s  = time.Second
	ms = time.Millisecond
	us = time.Microsecond
)

func ids(run, from, n int) (out IDs) {
	for i := range n {
		out = append(out, uint64(id(run, from+i)))
	}
	return out
}

func mv(from, to, why string) Move { return Move{From: from, To: to, Why: why} }

// upgrade is a handoff that goes well, from both sides.
func upgrade() (p, n *tape) {
	t := 1620 * s
	p = run(7, 1*s, "v1.2.0").
		at(1*s+2*ms, Listener{URL: "ping://:7000", Addr: "[::]:7000", How: Bound}).
		at(1*s+3*ms, mv("Starting", "Serving", "first start")).
		at(t, Handoff{ID: "7-1", Role: Predecessor, Trigger: "SIGUSR2", Binary: "/srv/current/server"}).
		at(t+80*us, mv("Serving", "Preparing", "SIGUSR2")).
		at(t+118*ms, Hello{Run: 8, PID: 904, Version: "v1.3.0", SHA256: "9f86d081884c7d65", Wire: []int{1}, Protocols: []string{"ping/1", "echo/1,2"}}).
		at(t+118*ms+200*us, Welcome{Listeners: 1, Sessions: 500}).
		at(t+119*ms, mv("Preparing", "Transferring", "run 8 is ready")).
		at(t+119*ms+300*us, Lend{Batch: 1, Sessions: ids(7, 1, 252)}).
		at(t+120*ms, Lend{Batch: 2, Sessions: ids(7, 253, 248)}).
		at(t+120*ms+500*us, Offer{Batch: 1, Sessions: ids(7, 1, 252)}).
		at(t+121*ms, Give{Batch: 1, Count: 251}).
		at(t+122*ms, Offer{Batch: 2, Sessions: ids(7, 253, 248)}).
		at(t+123*ms, Give{Batch: 2, Count: 248}).
		at(t+124*ms, Closed{Session: id(7, 12), Reason: "drain timeout", Read: 1200, Written: 800}).
		at(t+125*ms, mv("Transferring", "Draining", "all batches are given")).
		at(t+126*ms, Done{Moved: 499, Stragglers: 1, TookMS: 6.7, TotalMS: 126, Pause: &Pause{P50: 21, P99: 88, P999: 140, Max: 1500}}).
		at(t+5*s, mv("Draining", "Exited", "handed over to run 8"))
	p.Counters = Counters{Opened: 1204, Closed: 704}
	p.sessions(499, Given)
	n = run(8, t+101*ms, "v1.3.0").
		at(t+102*ms, mv("Starting", "Adopting", "run 7 is there")).
		at(t+118*ms+400*us, Handoff{ID: "7-1", Role: Successor, PeerRun: 7, PeerPID: 891}).
		at(t+118*ms+500*us, Listener{URL: "ping://:7000", Addr: "[::]:7000", How: Inherited}).
		at(t+120*ms+700*us, Take{Batch: 1, Count: 251, Refused: []Refusal{{Sessions: ids(7, 12, 1), Reason: "state version 3 is not read"}}}).
		at(t+121*ms+90*us, Give{Batch: 1, Count: 251, Pause: &Pause{P50: 19, P99: 80, Max: 900}}).
		at(t+122*ms+200*us, Take{Batch: 2, Count: 248}).
		at(t+123*ms+80*us, Give{Batch: 2, Count: 248, Pause: &Pause{P50: 23, P99: 95, Max: 1500}}).
		at(t+126*ms+100*us, mv("Adopting", "Serving", "everything is here")).
		at(t+5*s+100*us, Bye{PeerSeq: p.Last().Seq, PeerHead: p.Last().Hash})
	n.handoff = ""
	n.Counters = Counters{Opened: 31, Adopted: 499, Closed: 12}
	n.sessions(518, Own)
	n.Live = true
	p.at(t+5*s+ms, Sealed{Why: "handed over to run 8"})
	return p, n
}

// rolledBack is a handoff whose successor dies before it says anything.
func rolledBack() *tape {
	t := 60 * s
	p := run(3, 0, "v1.2.0").
		at(2*ms, mv("Starting", "Serving", "first start")).
		at(t, Handoff{ID: "3-1", Role: Predecessor, Trigger: "POST /upgrade", Binary: "/srv/broken"}).
		at(t+50*us, mv("Serving", "Preparing", "POST /upgrade")).
		at(t+12*ms, PeerDied{PID: 845, How: "exit status 1"}).
		at(t+13*ms, Abort{Reason: "the successor exited: exit status 1: flag provided but not defined: -x"}).
		at(t+14*ms, mv("Preparing", "Serving", "the successor exited"))
	p.Counters = Counters{Opened: 10}
	p.Live = true
	return p.sessions(10, Own)
}

func dryRun(verdict Data) *tape {
	t := 60 * s
	p := run(3, 0, "v1.2.0").
		at(2*ms, mv("Starting", "Serving", "first start")).
		at(t, Handoff{ID: "3-1", Role: Predecessor, Trigger: "server -upgrade -check", Binary: "/srv/next", Check: true}).
		at(t+50*us, mv("Serving", "Preparing", "server -upgrade -check")).
		at(t+90*ms, Hello{Run: 4, PID: 900, Version: "v1.3.0", SHA256: "9f86d081", Protocols: []string{"ping/1"}})
	if verdict != nil {
		p.at(t+91*ms, verdict)
	}
	p.at(t+92*ms, Abort{Reason: "dry run"}).at(t+93*ms, mv("Preparing", "Serving", "dry run"))
	p.Live = true
	return p
}

// killed is a predecessor that dies while batches move, and a successor that keeps what it has.
func killed() (p, n *tape) {
	t := 60 * s
	p = run(3, 0, "v1.2.0").
		at(2*ms, mv("Starting", "Serving", "first start")).
		at(t, Handoff{ID: "3-1", Role: Predecessor, Trigger: "SIGUSR2", Binary: "/srv/next"}).
		at(t+50*us, mv("Serving", "Preparing", "SIGUSR2")).
		at(t+90*ms, Hello{Run: 4, PID: 852, Version: "v1.3.0", SHA256: "9f86d081", Protocols: []string{"ping/1"}}).
		at(t+91*ms, mv("Preparing", "Transferring", "run 4 is ready")).
		at(t+92*ms, Lend{Batch: 1, Sessions: ids(3, 1, 3)})
	p.sessions(3, Lent)
	n = run(4, t+70*ms, "v1.3.0").
		at(t+71*ms, mv("Starting", "Adopting", "run 3 is there")).
		at(t+90*ms+500*us, Handoff{ID: "3-1", Role: Successor, PeerRun: 3, PeerPID: 839}).
		at(t+95*ms, PeerDied{Run: 3, PID: 839, How: "signal: killed"}).
		at(t+96*ms, Unsealed{Run: 3, FromSeq: 8}).
		at(t+97*ms, Closed{Session: id(3, 2), Reason: "position is not the witness's", Read: 400, Written: 100, Witness: &Positions{Read: 404, Written: 100}}).
		at(t+98*ms, mv("Adopting", "Serving", "rescue: run 3 died"))
	n.Live = true
	return p, n.sessions(2, Own)
}

func legal(from, to string) error {
	ok := map[string]string{"Starting": "Serving Adopting Exited", "Adopting": "Serving Exited", "Serving": "Preparing Draining",
		"Preparing": "Transferring Serving", "Transferring": "Draining Serving", "Draining": "Serving Exited"}
	if slices.Contains(strings.Fields(ok[from]), to) {
		return nil
	}
	return fmt.Errorf("illegal move: %s → %s", from, to)
}

// What an operator reads, as a whole: these are reviewed as a diff.
func TestGoldenText(t *testing.T) {
	logs := func(tapes ...*tape) (out []RunLog) {
		for _, t := range tapes {
			out = append(out, t.RunLog)
		}
		return out
	}
	both := func(p, n *tape) []RunLog { return logs(p, n) }
	twisted := rolledBack()
	twisted.at(70*s, mv("Serving", "Exited", "?")).at(71*s, mv("Serving", "Preparing", "again")).at(72*s, Gap{Lost: 1}).at(73*s, Withdrawn{Seq: 2})
	twisted.ChainErr = fmt.Errorf("%w at event 13: it names another event before it than event 12", ErrChain)
	for name, logs := range map[string][]RunLog{
		"upgrade":      both(upgrade()),
		"rolled-back":  logs(rolledBack()),
		"check-passed": logs(dryRun(nil)),
		"check-failed": logs(dryRun(Refused{Reason: "run 4 does not serve echo"})),
		"killed":       both(killed()),
		"first-start":  logs(run(1, s, "v1.2.0").at(2*s, mv("Starting", "Serving", "first start"))),
		"problems": append(logs(twisted),
			RunLog{Run: Run{Number: 2}, Err: fmt.Errorf("%w: 000002.db", ErrDamaged), Aside: "000002.db.damaged"},
			RunLog{Run: Run{Number: 4}, Err: fmt.Errorf("%w: 000004.db", ErrLive)}),
		"nothing": nil,
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, name+".txt", Replay(logs, legal).Text())
		})
	}
}

func TestGoldenJSON(t *testing.T) {
	p, n := upgrade()
	b, err := json.MarshalIndent(Replay([]RunLog{p.RunLog, n.RunLog}, legal), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "upgrade.json", string(b)+"\n")
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s; if it should be so, run go test ./journal -update (-want +got):\n%s", path, diff)
	}
}

func TestReplaySeesLies(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(p, n *tape)
		want string // "" = nothing to complain about
	}{
		{"the truth", func(p, n *tape) {}, ""},
		{"another event under the head", func(p, n *tape) { p.Events[4].Hash[0] ^= 1; p.Events[p.Last().Seq-2].Hash[0] ^= 1 }, "run 7: event 18 is not the one that run 8 was told of at BYE"},
		{"the end cut off", func(p, n *tape) { p.Events = p.Events[:15] }, "run 7: event 18 is missing: run 8 was told of it at BYE"},
		{"an illegal move", func(p, n *tape) { n.at(1630*s, mv("Serving", "Exited", "")) }, "run 8: event 11: illegal move: Serving → Exited"},
		{"a move from elsewhere", func(p, n *tape) { n.at(1630*s, mv("Preparing", "Serving", "")) }, "run 8: event 11: moves from Preparing, but the run was in Serving"},
		{"a move from elsewhere after a gap", func(p, n *tape) { n.at(1630*s, Gap{Lost: 3}).at(1631*s, mv("Preparing", "Serving", "")) },
			"run 8: event 11: 3 events were lost while the journal could not be written"},
		{"a withdrawn move", func(p, n *tape) {
			n.at(1630*s, mv("Serving", "Preparing", "")).at(1631*s, Withdrawn{Seq: 11}).at(1632*s, mv("Serving", "Draining", ""))
		}, ""},
		{"a death elsewhere", func(p, n *tape) { n.at(1630*s, Unsealed{Run: 7, FromSeq: 5}) }, "run 7: ends at event 19, but run 8 found its end at event 4"},
		{"a death of a run that is not there", func(p, n *tape) { n.at(1630*s, Unsealed{Run: 6, FromSeq: 5}) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, n := upgrade()
			c.lie(p, n)
			var want []string
			if c.want != "" {
				want = []string{c.want}
			}
			got := Replay([]RunLog{n.RunLog, p.RunLog}, legal).Problems
			if !slices.Equal(got, want) {
				t.Errorf("problems %q, want %q", got, want)
			}
		})
	}
}

// The same story is told whatever order the files come in, and by either clock.
func TestClocks(t *testing.T) {
	texts := func(logs ...RunLog) (out []string) {
		for _, l := range Replay(logs, legal).Handoff.Lines {
			out = append(out, fmt.Sprint(l.AtUS, l.Run, l.Text))
		}
		return out
	}
	p, n := upgrade()
	want := texts(p.RunLog, n.RunLog)
	if diff := cmp.Diff(want, texts(n.RunLog, p.RunLog)); diff != "" {
		t.Errorf("order of files: %s", diff)
	}

	// On one boot the monotonic clock counts, whatever somebody did to the other.
	p, n = upgrade()
	for i := range n.Events {
		n.Events[i].Wall = n.Events[i].Wall.Add(-time.Hour)
	}
	if diff := cmp.Diff(want, texts(p.RunLog, n.RunLog)); diff != "" {
		t.Errorf("wall clock set back: %s", diff)
	}

	// Across boots the monotonic clock means nothing.
	p, n = upgrade()
	n.Run.BootID = "boot-2"
	for i := range n.Events {
		n.Events[i].Mono -= int64(time.Hour)
	}
	if diff := cmp.Diff(want, texts(p.RunLog, n.RunLog)); diff != "" {
		t.Errorf("another boot: %s", diff)
	}
}

// Merging keeps every event once, keeps each run's order even where its clock went backwards, and is in order of time where none did.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jumps := rapid.Bool().Draw(t, "clock jumps")
		least := 0
		if jumps {
			least = -50
		}
		var logs []RunLog
		total := 0
		for number := range rapid.IntRange(0, 4).Draw(t, "runs") {
			l := RunLog{Run: Run{Number: number, BootID: "b"}}
			mono := int64(0)
			for range rapid.IntRange(0, 20).Draw(t, "events") {
				mono += int64(rapid.IntRange(least, 50).Draw(t, "later"))
				l.Events = append(l.Events, Event{Seq: uint64(len(l.Events) + 1), Mono: mono})
				total++
			}
			logs = append(logs, l)
		}
		seen := map[int]uint64{}
		last := int64(-1 << 62)
		merged := merge(logs)
		for _, e := range merged {
			if e.Seq != seen[e.log.Run.Number]+1 {
				t.Fatalf("event %d of run %d follows event %d", e.Seq, e.log.Run.Number, seen[e.log.Run.Number])
			}
			seen[e.log.Run.Number] = e.Seq
			if !jumps && e.Mono < last {
				t.Fatalf("%d comes after %d", e.Mono, last)
			}
			last = e.Mono
		}
		if len(merged) != total {
			t.Fatalf("%d events of %d", len(merged), total)
		}
	})
}

// A text from outside stays on its line.
func TestTextIsOneLinePerEvent(t *testing.T) {
	p := run(1, 0, "v1").at(s, Handoff{ID: "1-1", Role: Predecessor}).at(2*s, Abort{Reason: "panic: x\ngoroutine 1:\n\x1b[31m\tmain"})
	text := Replay([]RunLog{p.RunLog}, nil).Text()
	if strings.Contains(text, "\x1b") || !strings.Contains(text, "ABORT: panic: x goroutine 1:  [31m main\n") {
		t.Errorf("%q", text)
	}
}

func TestReplayOfRealFiles(t *testing.T) {
	dir := t.TempDir()
	p, n := create(t, dir, Options{}), create(t, dir, Options{})
	p.Record(mv("Starting", "Serving", ""))
	p.Record(Handoff{ID: "1-1", Role: Predecessor})
	n.Record(Handoff{ID: "1-1", Role: Successor, PeerRun: 1})
	if err := p.Commit(ctx, mv("Serving", "Preparing", "")); err != nil {
		t.Fatal(err)
	}
	seq, head := p.Head()
	n.Record(Bye{PeerSeq: seq, PeerHead: head})
	sealed(t, p)
	sealed(t, n)
	logs, err := ReadAll(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	tl := Replay(logs, legal)
	if len(tl.Problems) != 0 || tl.Checked != (Checked{Runs: 2, Events: 9, Moves: 2, Links: 1}) {
		t.Errorf("%+v, %q", tl.Checked, tl.Problems)
	}
	if tl := Replay(logs, func(string, string) error { return errors.New("never") }); len(tl.Problems) != 2 {
		t.Errorf("a check that refuses everything finds %q", tl.Problems)
	}
}
