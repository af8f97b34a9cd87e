package tests

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A predecessor in probation that was stopped answers nobody. An upgrade is refused with the reason and works later, and a stop goes on.
func TestStoppedPredecessorHoldsNobody(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	first := s.start("-read-timeout", "1m")
	c := dial(t, s.addr(loopback))
	c.ping(1)
	s.upgrade()
	first.signal(syscall.SIGSTOP)
	defer first.cmd.Process.Signal(syscall.SIGCONT) // if the test fails before it does
	r := s.run("-upgrade")
	if r.code != 3 || !strings.Contains(r.stdout, fmt.Sprintf("run 1 (pid %d), the predecessor of this one, does not answer", first.pid())) {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	c.ping(1)
	second := s.pid()
	s.signal(second, syscall.SIGTERM)
	waitFor(t, patience, "the server stops", func() bool { return s.pid() == 0 })

	// It hears what its successor had said before it ended, and does not begin to serve again.
	first.signal(syscall.SIGCONT)
	if code := first.exit(patience); code != 0 {
		t.Errorf("the predecessor exits %d: %s", code, first.stderr.finish())
	}
	if log := s.log(); strings.Contains(log, "from=Draining to=Serving") {
		t.Error("the predecessor served again")
	}
}

// A server whose stdout and stderr are pipes that nobody reads becomes ready, fails an upgrade, upgrades and stops.
func TestNobodyReadsTheOutput(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd := int(w.Fd()) // asked for once, since that makes it blocking again
	unix.SetNonblock(fd, true)
	for _, size := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = unix.Write(fd, make([]byte, size))
		}
	}
	unix.SetNonblock(fd, false)
	cmd := s.command(programs.server, "-w", s.dir, "-listen", loopback)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go cmd.Wait()
	waitFor(t, patience, "the server serves", func() bool { st, err := s.tryStatus(); return err == nil && st.State == "Serving" })
	failing := plainFile(0o755, "#!/bin/sh\necho so be it >&2\nexit 7\n")(s)
	if r := s.run("-upgrade", "-binary", failing); r.code != 3 || !strings.Contains(r.stdout, "exit status 7; it said: so be it") {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	s.upgrade()
	s.stop()
}

// A server whose journals were removed still gives its successor a number of its own, and does not remove the successor's names.
func TestJournalsRemovedWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start("-probation", "200ms")
	if err := os.RemoveAll(s.path("journal")); err != nil {
		t.Fatal(err)
	}
	s.upgrade()
	s.alone()
	if st := s.status(); st.Run != 2 {
		t.Errorf("run %d after an upgrade of run 1", st.Run)
	}
	s.upgrade()
}

// What the control socket does not understand is not an upgrade.
func TestControlRefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start()
	for _, query := range []string{"check=1", "check=yes", "by=a%0ab", "by=" + strings.Repeat("x", 200), "binary=server"} {
		c, err := net.Dial("unix", s.path("control.sock"))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "POST /upgrade?%s HTTP/1.1\r\nHost: workspace\r\nConnection: close\r\n\r\n", query)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		c.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s: %s", query, resp.Status, body)
		}
	}
	if st := s.status(); st.Run != 1 || st.LastHandoff != nil {
		t.Errorf("something was done: %+v", st)
	}
}

// Whoever stops waiting for an upgrade is told that it goes on.
func TestUpgradeGoesOnWithoutItsAsker(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start()
	slow := plainFile(0o755, "#!/bin/sh\nsleep 1\nexec "+programs.server+" \"$@\"\n")(s)
	p := s.launch(s.command(programs.server, "-w", s.dir, "-upgrade", "-binary", slow))
	waitFor(t, patience, "the upgrade begins", func() bool { return s.status().State == "Preparing" })
	p.signal(syscall.SIGINT)
	if code := p.exit(patience); code != 1 || !strings.Contains(p.stderr.finish(), "the upgrade goes on") {
		t.Errorf("exit %d: %s", code, p.stderr.finish())
	}
	waitFor(t, patience, "the successor serves", func() bool { st, err := s.tryStatus(); return err == nil && st.Run == 2 })
}
