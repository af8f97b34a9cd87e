package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/handoff"
)

// python is a client in another language: it pings until its stdin ends, and prints how often.
const python = `
import select, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
n = 0
while not select.select([sys.stdin], [], [], 0.01)[0]:
    s.sendall(b"ping")
    got = b""
    while len(got) < 4:
        more = s.recv(4 - len(got))
        if not more:
            sys.exit("connection lost after %d pings" % n)
        got += more
    if got != b"pong":
        sys.exit("got %r after %d pings" % (got, n))
    n += 1
print(n)
`

// postUpgrade asks over the control socket, and returns the outcome.
func (s *space) postUpgrade() error {
	resp, err := s.controlOf(0).Post("http://workspace/upgrade", "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var u handoff.Update
		if err := lines.Decode(&u); err != nil {
			return err
		}
		if u.Result != nil && !u.Result.Succeeded() {
			return fmt.Errorf("%+v", *u.Result)
		}
		if u.Result != nil {
			return nil
		}
	}
}

// usr2 sends the signal to the serving process, and waits for the next run to serve.
func (s *space) usr2() error {
	st := s.status()
	s.signal(st.PID, syscall.SIGUSR2)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		now, err := s.tryStatus()
		if err != nil {
			return err // somebody always answers
		}
		if now.Run > st.Run && now.PID == s.pid() {
			return nil
		}
	}
	return fmt.Errorf("run %d still serves", st.Run)
}

func TestTenUpgradesByEachTriggerUnderAPythonClient(t *testing.T) {
	t.Parallel()
	py := need(t, "python3", "a client in another language")
	s := newSpace(t)
	s.start("-probation", "300ms")
	host, port, _ := strings.Cut(s.addr(loopback), ":")
	cmd := exec.Command(py, "-c", python, host, port)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	client := launch(t, cmd)
	t.Cleanup(func() { stdin.Close(); client.exit(patience) })
	waitFor(t, patience, "the python client is connected", func() bool { return s.status().Sessions == 1 })

	for _, trigger := range []struct {
		name string
		pull func() error
	}{
		{"SIGUSR2", s.usr2},
		{"-upgrade", func() error { s.upgrade(); return nil }},
		{"POST /upgrade", s.postUpgrade},
	} {
		for i := range 10 {
			if err := trigger.pull(); err != nil {
				t.Fatalf("%s, upgrade %d: %v", trigger.name, i+1, err)
			}
		}
		log := s.replay().Handoff
		if !strings.Contains(log.Trigger, trigger.name) {
			t.Errorf("the journal says that %q asked, not %q", log.Trigger, trigger.name)
		}
	}
	if st := s.status(); st.Run != 31 || st.Sessions != 1 {
		t.Errorf("run %d with %d sessions, want 31 with 1", st.Run, st.Sessions)
	}
	stdin.Close()
	if code := client.exit(patience); code != 0 {
		t.Errorf("the python client: %s", client.stderr.finish())
	}
	if n := strings.TrimSpace(client.stdout.finish()); n == "" || n == "0" {
		t.Errorf("the python client has pinged %q times", n)
	}
}

// script makes a program of a shell script, for -binary.
func (s *space) script(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.base, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// One at a time: whoever comes second is told so, whatever way they come, and changes nothing.
func TestSecondRequestIsRefused(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start()
	c := newCrowd(t, s.addr(loopback), fewOfEach()...)
	slow := s.script("slow", "while [ ! -e "+s.base+"/go ]; do sleep 0.05; done; exec "+programs.next+` "$@"`)
	first := s.launch(s.command(programs.server, "-w", s.dir, "-upgrade", "-binary", slow))
	waitFor(t, patience, "the first is under way", func() bool { return s.status().State == "Preparing" })

	const want = "an upgrade is in progress (run 1 is Preparing)"
	for _, args := range [][]string{{"-upgrade"}, {"-upgrade", "-check"}, {"-takeover", "-listen", loopback}} {
		r := s.run(args...)
		if r.code != 1 || !strings.Contains(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%v: exit %d, %q; want 1, and one line with %q", args, r.code, r.stderr, want)
		}
	}
	resp, err := s.controlOf(0).Post("http://workspace/upgrade", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusConflict || !strings.Contains(string(text), want) {
		t.Errorf("POST: %s, %q", resp.Status, text)
	}
	s.signal(s.pid(), syscall.SIGUSR2)
	s.awaitLog("SIGUSR2 ignored", "an upgrade is in progress")

	os.WriteFile(filepath.Join(s.base, "go"), nil, 0o644)
	if code := first.exit(patience); code != 0 {
		t.Errorf("the first exits %d: %s", code, first.stdout.finish())
	}
	s.upgrade()
	if err := s.usr2(); err != nil {
		t.Error(err)
	}
	c.check()
	s.replay()
}
