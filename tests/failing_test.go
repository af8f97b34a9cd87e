package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"baton/journal"
)

// A failure is a successor that will not do.
type failure struct {
	name   string
	binary func(*space) string // what -binary names; nil = badsuccessor by this name
	reason string              // that is told
	check  bool                // a dry run finds it as well
	moves  bool                // it shows only when there are sessions to move
}

var failures = []failure{
	{name: "missing", binary: func(s *space) string { return s.base + "/missing" }, reason: "no such file or directory", check: true},
	{name: "directory", binary: func(s *space) string { return s.base }, reason: "permission denied", check: true},
	{name: "not executable", binary: plainFile(0o644, "#!/bin/sh\n"), reason: "permission denied", check: true},
	{name: "wrong format", binary: plainFile(0o755, "just some text\n"), reason: "exec format error", check: true},
	{name: "bad flag", binary: addFlag("-no-such-flag"), reason: "-no-such-flag", check: true},
	{name: "unknown protocol", binary: addFlag("-listen chess://:1"), reason: `unknown protocol "chess"`, check: true},
	{name: "port in use", binary: addBusyPort, reason: "address already in use", check: true},

	{name: "exits", reason: "exit status 1; it said: badsuccessor: no such database", check: true},
	{name: "crashes", reason: "signal: killed", check: true},
	{name: "hangs", reason: "did not become ready in time", check: true},
	{name: "garbage-hello", reason: "exit status 1", check: true},
	{name: "early-take", reason: "exit status 1", check: true},
	{name: "other-version", reason: "the successor speaks versions [99] of the handoff, this run speaks 1", check: true},
	{name: "no-protocol", reason: `protocol "ping" is in use and not known there`, check: true},
	{name: "no-state", reason: `state of protocol "ping": versions [1] can be written here, [99] be read there`, check: true},
	{name: "few-files", reason: "RLIMIT_NOFILE", check: true},
	{name: "dies-after-hello", reason: "it said: badsuccessor: out of luck", check: true},
	{name: "refuses-welcome", reason: "the successor refused: the cache is cold", check: true},
	{name: "dies-after-welcome", reason: "signal: killed", check: true},
	{name: "garbage-frame", reason: "wire: bad frame: unknown type 238", check: true},
	{name: "early-done", reason: "the successor said DONE while", check: true},

	{name: "refuses-batch", reason: "the successor refused: these are not my sockets", moves: true},
	{name: "dies-after-lend", reason: "signal: killed", moves: true},
	{name: "dies-after-offer", reason: "signal: killed", moves: true},
	{name: "silent-after-offer", reason: "the successor did not answer in time", moves: true},
	{name: "refuses-session", reason: "no room for this one", moves: true},
	{name: "takes-others", reason: "the successor took other sessions than those of offer 1", moves: true},
	{name: "takes-twice", reason: "the successor took offer 2, which is not the next", moves: true},
}

func plainFile(mode os.FileMode, text string) func(*space) string {
	return func(s *space) string {
		path := filepath.Join(s.base, "program")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			s.t.Fatal(err)
		}
		return path
	}
}

// addFlag makes the real server fail: it gets a flag more.
func addFlag(flag string) func(*space) string {
	return func(s *space) string { return s.script("program", "exec "+programs.server+` "$@" `+flag) }
}

func addBusyPort(s *space) string {
	other := newSpace(s.t)
	other.start()
	return addFlag("-listen ping://" + other.addr(loopback))(s)
}

// badSuccessor makes a program that fails in this way.
func (s *space) badSuccessor(way string) string {
	s.t.Helper()
	path := filepath.Join(s.base, way)
	if err := os.Symlink(programs.bad, path); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func TestFailingSuccessor(t *testing.T) {
	t.Parallel()
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			s.start("-hello-timeout", "500ms", "-probation", "500ms", "-read-timeout", "1m")
			before := descriptors(t, s.pid())
			c := newCrowd(t, s.addr(loopback), fewOfEach()...)
			half := dial(t, s.addr(loopback))
			half.ping(1)
			half.send("pi")
			binary := ""
			if f.binary != nil {
				binary = f.binary(s)
			} else {
				binary = s.badSuccessor(f.name)
			}

			r := s.run("-upgrade", "-binary", binary)
			wantRolledBack(t, s, r, f.reason)
			if f.check {
				r := s.run("-upgrade", "-check", "-binary", binary)
				wantRolledBack(t, s, r, f.reason)
			}
			half.send("ng")
			half.expect(1)
			half.Close()

			// The successor has 500 ms to say HELLO. A busy machine may need another try.
			waitFor(t, patience, "the next upgrade works", func() bool { return s.run("-upgrade").code == 0 })
			c.check()
			s.alone()
			waitFor(t, patience, "all sessions have ended", func() bool { return s.status().Sessions == 0 })
			checkDescriptors(t, s, before)
			s.replay()
		})
	}
}

// wantRolledBack checks all that tells of an upgrade that has failed.
func wantRolledBack(t *testing.T, s *space, r result, reason string) {
	t.Helper()
	if r.code != 3 || !strings.Contains(r.stdout, reason) || !strings.Contains(r.stdout, "rolled back: run 1 goes on serving\nreason: ") {
		t.Errorf("exit %d, want 3, and the reason %q; stdout %q, stderr %q", r.code, reason, r.stdout, r.stderr)
	}
	st := s.status()
	if h := st.LastHandoff; h == nil || h.Result != "rolled back" || !strings.Contains(h.Reason, reason) {
		t.Errorf("-status tells of %+v", h)
	}
	if st.Run != 1 || st.PID != s.pid() || st.State != "Serving" {
		t.Errorf("run %d (pid %d, server.pid %d) is %s", st.Run, st.PID, s.pid(), st.State)
	}
	if events := s.eventsOf(1); !strings.Contains(unquoted(events), reason) {
		t.Errorf("the journal does not say why: %s", events)
	}
	if h := s.replay().Handoff; h == nil || (h.Result != journal.ResultRolledBack && h.Result != journal.ResultCheckFailed && h.Result != journal.ResultPeerDied) {
		t.Errorf("the replay tells of %+v", h)
	}
}

// unquoted is JSON as people would read it.
func unquoted(s string) string { return strings.ReplaceAll(s, `\"`, `"`) }

func TestCheck(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start()
	c := newCrowd(t, s.addr(loopback), fewOfEach()...)
	before := s.status()
	for _, args := range [][]string{{}, {"-binary", programs.next}} {
		r := s.run(append([]string{"-upgrade", "-check"}, args...)...)
		if r.code != 0 || !strings.HasPrefix(r.stdout, "check: an upgrade would work (run ") {
			t.Errorf("%v: exit %d, %q %q", args, r.code, r.stdout, r.stderr)
		}
		if len(args) > 0 && !strings.Contains(r.stdout, versionTwo) {
			t.Errorf("%v: %q does not name the version %s", args, r.stdout, versionTwo)
		}
		st := s.status()
		if st.Run != before.Run || st.PID != before.PID || st.PID != s.pid() || st.State != "Serving" {
			t.Errorf("%v: after the check: %+v", args, st)
		}
		if h := st.LastHandoff; h == nil || h.Result != "checked" || h.Moved != 0 {
			t.Errorf("%v: last handoff: %+v", args, h)
		}
		if h := s.replay().Handoff; h == nil || !h.Check || h.Result != journal.ResultCheckPassed {
			t.Errorf("%v: the replay tells of %+v", args, h)
		}
		if pids := processesOf(s.base); len(pids) != 1 {
			t.Errorf("%v: processes %v are left", args, pids)
		}
	}
	time.Sleep(100 * time.Millisecond)
	s.upgrade("-binary", programs.next)
	c.check()
}
