package protocol

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"baton/internal/session"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata; review them as a diff")

// TestTranscripts plays the scripts in testdata. A line that begins with "> " is a command, one with "#" a comment; everything else is
// what the machines did, as recorded: "P ← x" is an input of the predecessor, S is the successor, and what a machine answers is indented.
// The commands:
//
//	new [lend=N] [offer=N] [offers=N] [retries=N] [sessions=N] [check]    a new world
//	run [until P=STEP|S=STAGE]       what goes on by itself, until nothing does, or either is there
//	next NAME                        only the next thing of that name: message to P, news to S, journal, death to P ...
//	expire P|S TIMER                 a timer runs out
//	kill P|S [after N]               now, or after N more acts
//	stop P|S, part S                 is asked to
//	open P|S, end N, busy N, idle N, stuck N, push N, refuse N, unsavable N      sessions; a second time takes it back
//	fault NAME [STATE]               unfit, noadopt, noborrow, noroom, nojournal, cut, nomove STATE
//	lie to P|S: MESSAGE              it hears what was not said
//	who                              says who has which session
//	quietly COMMAND                  what happens is not recorded, since another transcript has it
func TestTranscripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			now := play(t, string(before))
			if *update {
				if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(before), now); diff != "" {
				t.Errorf("-before +now (-update rewrites it):\n%s", diff)
			}
		})
	}
}

// play plays a script and returns it with what happens now.
func play(t *testing.T, script string) string {
	var b strings.Builder
	var w *world
	blank := true // the line before is
	silent := false
	write := func(line string) {
		fmt.Fprintln(&b, line)
		blank = line == ""
	}
	check := func() {
		if w == nil {
			return
		}
		if w.watch(); w.err() != nil {
			t.Errorf("%v; the transcript so far:\n%s", w.err(), b.String())
			w.wrong = nil
		}
	}
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
			if !blank {
				write("")
			}
			b.WriteString(line + "\n") // the command below belongs to it
			blank = true
		case strings.HasPrefix(line, "> "):
			if !blank {
				write("")
			}
			write(line)
			words := strings.Fields(line[2:])
			silent = words[0] == "quietly"
			if silent {
				words = words[1:]
			}
			if words[0] == "new" {
				w = newScript(words[1:])
				w.log = func(line string) {
					if !silent {
						write(strings.Replace(line, "    ", "\t", 1))
					}
				}
			} else if err := w.command(words); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			check()
		}
	}
	return b.String()
}

func newScript(words []string) *world {
	opt, sessions, dry := Options{LendBatch: 2, OfferBatch: 2, MaxOffers: 2, Retries: 1}, 0, false
	fields := map[string]*int{"lend": &opt.LendBatch, "offer": &opt.OfferBatch, "offers": &opt.MaxOffers, "retries": &opt.Retries, "sessions": &sessions}
	for _, word := range words {
		if word == "check" {
			dry = true
			continue
		}
		name, value, _ := strings.Cut(word, "=")
		*fields[name], _ = strconv.Atoi(value)
	}
	w := newWorld(opt, sessions)
	w.pm.check = dry
	return w
}

func (w *world) command(words []string) error {
	var x *side
	var s *sess
	if len(words) > 1 {
		x = map[string]*side{"P": &w.p, "S": &w.s}[words[1]]
		if n, err := strconv.Atoi(words[1]); err == nil {
			if s = w.sessions[session.MakeID(7, uint64(n))]; s == nil {
				return fmt.Errorf("no session %d", n)
			}
		}
	}
	switch words[0] {
	case "run":
		w.run(words[1:])
	case "next":
		name := strings.Join(words[1:], " ")
		for _, e := range w.events() {
			if e.name == name {
				e.do(w)
				return nil
			}
		}
		var names []string
		for _, e := range w.events() {
			names = append(names, e.name)
		}
		return fmt.Errorf("only these may happen: %s", strings.Join(names, ", "))
	case "expire":
		if t := Timer(words[2]); x.timers[t] {
			delete(x.timers, t)
			w.impatient = true
			w.put(x, Expired{t})
			return nil
		}
		return fmt.Errorf("set are only %v", x.timers)
	case "kill":
		if len(words) > 2 {
			x.actsLeft, _ = strconv.Atoi(words[3])
		} else {
			w.die(x)
		}
	case "stop":
		w.put(x, Stop{})
	case "part":
		w.put(x, Part{})
	case "open":
		w.open(x)
	case "end":
		if w.canEnd(s) == nil {
			return fmt.Errorf("nobody serves it: %+v", *s)
		}
		w.endSession(s)
	case "busy", "idle":
		s.busy = words[0] == "busy"
	case "stuck":
		s.stuck = true
	case "push":
		w.push(s)
	case "refuse":
		w.refuse[s.id] = !w.refuse[s.id]
	case "unsavable":
		w.unsavable[s.id] = !w.unsavable[s.id]
	case "fault":
		switch words[1] {
		case "nomove":
			w.refuseMoves[State(words[2])] = true
		default:
			*map[string]*bool{"unfit": &w.unfit, "noadopt": &w.noAdopt, "noborrow": &w.noBorrow, "noroom": &w.noRoom, "nojournal": &w.noJournal, "cut": &w.cutOff}[words[1]] = true
		}
	case "lie":
		for _, e := range w.lies() {
			if e.name == "LIE "+strings.Join(words[1:], " ") {
				e.do(w)
				return nil
			}
		}
		return fmt.Errorf("nobody would believe that")
	case "who":
		w.who()
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

func (w *world) run(until []string) {
	there := func() bool {
		if len(until) == 0 {
			return false
		}
		at := until[1]
		return at == "P="+string(w.pm.step) || at == "S="+string(w.sm.stage)
	}
	for list := w.events(); len(list) > 0 && !there(); list = w.events() {
		list[0].do(w)
		w.watch()
	}
	if len(w.events()) == 0 {
		w.watchQuiet()
	}
}

func (w *world) who() {
	for _, id := range sortedKeys(w.sessions) {
		s := w.sessions[id]
		knows := "P " + s.p.String()
		if s.p == absent {
			knows = "no session of P"
		}
		w.log(fmt.Sprintf("    %d: %s, S %s it", id.N(), knows, heldAs[s.s]) + note(s.copied, "P has a copy") + note(s.lost != "", "lost "+s.lost))
	}
}
