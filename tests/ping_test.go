package tests

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The behaviour of the original demo, which has to stay.

func TestPingIsAnsweredPong(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.start()
	c := dial(t, s.addr(loopback))
	c.ping(1)
	c.ping(1000)
	c.send("pi")
	c.expectQuiet()
	c.send("ngping")
	c.expect(2)
	c.CloseWrite()
	c.expectEnd()
	if got := strings.Count(p.stdout.String(), "\n"); got != 1 {
		t.Errorf("want one line on stdout, got %d: %q", got, p.stdout.String())
	}
	if p.stderr.String() != "" {
		t.Errorf("want nothing on stderr, got %q", p.stderr.String())
	}
}

// What a client sends is nobody else's to read.
func TestBadFrameEndsTheSessionAndIsToldNowhere(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-hunter2-hunter2"
	for _, tt := range []struct{ name, send, reason string }{
		{"other frame", secret, `not \"ping\"`},
		{"after good ones", "pingping" + secret, `not \"ping\"`},
		{"half a frame", "pi", "unexpected EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSpace(t)
			p := s.start()
			c := dial(t, s.addr(loopback))
			c.send(tt.send)
			c.CloseWrite()
			c.expect(strings.Count(tt.send, "ping"))
			c.expectEnd()
			s.awaitLog("session closed", tt.reason, c.LocalAddr().String())
			dial(t, s.addr(loopback)).ping(1) // others are served
			s.upgrade()                       // a move writes more to the journals
			s.stop()
			for _, text := range []string{p.stdout.String(), p.stderr.String()} {
				if strings.Contains(text, "hunter2") {
					t.Errorf("payload in the output: %q", text)
				}
			}
			files := 0
			filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				files++
				b, err := os.ReadFile(path)
				if err != nil || strings.Contains(string(b), "hunter2") {
					t.Errorf("%s: payload in it, or %v", path, err)
				}
				return nil
			})
			if files < 4 {
				t.Errorf("only %d files were looked at: log, lock and two journals are expected", files)
			}
		})
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		flags []string
		want  time.Duration
	}{
		{"default", nil, 5 * time.Second},
		{"by flag", []string{"-read-timeout", "1s", "-write-timeout", "1s"}, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			s.start(tt.flags...)
			addr := s.addr(loopback)

			idle := dial(t, addr)
			idle.ping(1)
			since := time.Now()
			idle.expectEnd()
			checkDuration(t, "read timeout", time.Since(since), tt.want)
			s.awaitLog("session closed", "nothing received within the read timeout")

			deaf := dial(t, addr)
			deaf.SetReadBuffer(4 << 10)
			since = time.Now()
			go deaf.Write([]byte(repeat("ping", 4<<20)))
			waitFor(t, patience, "the deaf client's session", func() bool { return s.status().Sessions == 1 })
			waitFor(t, patience, "the deaf client is closed", func() bool { return s.status().Sessions == 0 })
			if took := time.Since(since); took < tt.want-100*time.Millisecond {
				t.Errorf("write timeout: closed after %v, want %v at least", took, tt.want)
			}
			s.awaitLog("session closed", "nothing taken within the write timeout")
		})
	}
}

// checkDuration allows for the wheel's ticks and a busy machine.
func checkDuration(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want-100*time.Millisecond || got > want+1500*time.Millisecond {
		t.Errorf("%s: took %v, want %v", what, got.Round(time.Millisecond), want)
	}
}

func TestWorkspace(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.start()
	for _, tt := range []struct {
		name string
		mode fs.FileMode
	}{
		{".", fs.ModeDir | 0o700},
		{"server.log", 0o600},
		{"server.pid", 0o644},
		{"lock", 0o600},
		{"journal", fs.ModeDir | 0o700},
		{"journal/000001.db", 0o600},
		{"run", fs.ModeDir | 0o700},
		{"run/000001.sock", fs.ModeSocket | 0o600},
		{"run/000001.control", fs.ModeSocket | 0o600},
		{"conn.sock", fs.ModeSymlink | 0o777},
		{"control.sock", fs.ModeSymlink | 0o777},
	} {
		info, err := os.Lstat(s.path(tt.name))
		if err != nil {
			t.Error(err)
		} else if info.Mode() != tt.mode {
			t.Errorf("%s: mode %v, want %v", tt.name, info.Mode(), tt.mode)
		}
	}
	if s.pid() != p.pid() {
		t.Errorf("server.pid says %d, the server is %d", s.pid(), p.pid())
	}
	for name, want := range map[string]string{"conn.sock": "run/000001.sock", "control.sock": "run/000001.control"} {
		if to, _ := os.Readlink(s.path(name)); to != want {
			t.Errorf("%s leads to %q, want %q", name, to, want)
		}
	}
	s.upgrade()
	if st := s.status(); st.PID != s.pid() || st.PID == p.pid() || st.Run != 2 {
		t.Errorf("after an upgrade: run %d, pid %d, server.pid %d; the first was pid %d", st.Run, st.PID, s.pid(), p.pid())
	}
	if to, _ := os.Readlink(s.path("conn.sock")); to != "run/000002.sock" {
		t.Errorf("after an upgrade conn.sock leads to %q", to)
	}
	s.stop()
	if code := p.exit(patience); code != 0 {
		t.Errorf("the predecessor exits %d", code)
	}
}
