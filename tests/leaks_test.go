package tests

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the serving process must not have too much of, when all is over: goroutines and descriptors.

// Belongings are what a server at rest has: a line for each descriptor, and one for each goroutine, by where it was started.
type belongings struct{ descriptors, goroutines []string }

// belongings waits until the serving process, a stepserver that has just started, is at rest: looking at the past takes it a moment.
func (s *space) belongings() (b belongings) {
	s.t.Helper()
	waitFor(s.t, patience, "the server has looked at the past", func() bool {
		before := b.goroutines
		time.Sleep(30 * time.Millisecond)
		text := s.stacks()
		b.goroutines = startsOf(text)
		return slices.Equal(b.goroutines, before) && !strings.Contains(text, "[runnable]") && !startup.MatchString(text)
	})
	b.descriptors = descriptors(s.t, s.pid())
	return b
}

// startup is what goes on for a while after a start, by the names of the functions: where one of them is missing, descriptors seem to be left over.
var startup = regexp.MustCompile(`\(\*run\)\.(prune|reconcilePast)|\(\*workspace\)\.sweep|created by baton/handoff\.\(\*run\)\.serve`)

// checkBelongings fails the test if the serving process has more than is wanted, or other things, besides the sockets of sessions.
func (s *space) checkBelongings(t testing.TB, want belongings, sessions int) {
	t.Helper()
	for range sessions {
		want.descriptors = append(slices.Clone(want.descriptors), "socket:[N]")
	}
	slices.Sort(want.descriptors)
	checkDescriptors(t, s, want.descriptors)
	var text string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if text = s.stacks(); slices.Equal(startsOf(text), want.goroutines) {
			return
		}
	}
	t.Errorf("goroutines left over:\n got %q\nwant %q\n%s", startsOf(text), want.goroutines, text)
}

// stacks asks the serving process for the stacks of its goroutines.
func (s *space) stacks() (text string) {
	s.t.Helper()
	pid := s.pid()
	path := s.path("stacks-" + strconv.Itoa(pid))
	os.Remove(path)
	s.signal(pid, syscall.SIGUSR1)
	waitFor(s.t, patience, "the server tells of its goroutines", func() bool {
		b, err := os.ReadFile(path)
		text = string(b)
		return err == nil
	})
	os.Remove(path)
	return text
}

// started is in the last but one line of a goroutine's stack.
var started = regexp.MustCompile(`(?m)^created by (.*?)(?: in goroutine [0-9]+)?$`)

// startsOf says where goroutines were started, sorted.
func startsOf(stacks string) (starts []string) {
	for stack := range strings.SplitSeq(strings.TrimSpace(stacks), "\n\n") {
		if m := started.FindStringSubmatch(stack); m != nil {
			starts = append(starts, m[1])
		} else {
			starts = append(starts, "main")
		}
	}
	slices.Sort(starts)
	return starts
}
