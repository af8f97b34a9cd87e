package tests

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

const nobody = 65534 // uid and gid

// asNobody has a command run as a user who owns nothing. The test is skipped if we cannot do that.
func asNobody(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as another user")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// open lets everybody look into the space, so that nothing but the server itself keeps strangers out.
func (s *space) open() {
	s.t.Helper()
	for _, dir := range []string{s.base, s.dir, s.path("run")} {
		if err := os.Chmod(dir, 0o755); err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
	}
	sockets, _ := filepath.Glob(s.path("run", "*"))
	for _, socket := range sockets {
		os.Chmod(socket, 0o777)
	}
}

func TestBadCommandLine(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-no-such-flag"}, "flag provided but not defined: -no-such-flag"},
		{[]string{"-read-timeout", "soon"}, `invalid value "soon" for flag -read-timeout`},
		{[]string{"-listen"}, "flag needs an argument: -listen"},
		{[]string{"stray"}, `unexpected argument "stray"`},
		{[]string{"-listen", "chess://127.0.0.1:0"}, `unknown protocol "chess"; this server speaks ping`},
		{[]string{"-listen", "127.0.0.1:0"}, "not of the form protocol://[host]:port"},
		{[]string{"-listen", "ping://127.0.0.1"}, "not of the form protocol://[host]:port"},
		{[]string{"-listen", "ping://127.0.0.1:0/path"}, "not of the form protocol://[host]:port"},
		{[]string{"-listen", ""}, "not of the form protocol://[host]:port"},
		{[]string{"-upgrade", "-status"}, "choose one of"},
		{[]string{"-upgrade", "-takeover"}, "choose one of"},
		{[]string{"-binary", "/bin/true"}, "go with -upgrade"},
		{[]string{"-check"}, "go with -upgrade"},
		{[]string{"-json"}, "goes with -replay"},
		{[]string{"-read-timeout", "-1s"}, "cannot be negative"},
		{[]string{"-probation", "0s"}, "-probation has to be more than 0"},
	} {
		r := s.run(tt.args...)
		first, rest, _ := strings.Cut(r.stderr, "\n")
		if r.code != 2 || r.stdout != "" || !strings.Contains(first, tt.want) || rest != "" {
			t.Errorf("%q: exit %d, want 2 and %q; stdout %q, stderr %q", tt.args, r.code, tt.want, r.stdout, r.stderr)
		}
	}
	if _, err := os.Stat(s.dir); err == nil {
		t.Error("a workspace was made")
	}
}

// What stands in the way of a start is told in one line.
func TestStartThatCannotBe(t *testing.T) {
	t.Parallel()
	busy := newSpace(t)
	busy.start()
	for _, tt := range []struct {
		name string
		args []string
		make func(t *testing.T, s *space) *exec.Cmd // nil: the server with the args
		want string
	}{
		{name: "port in use", args: []string{"-listen", "ping://" + busy.addr(loopback)}, want: "address already in use"},
		{name: "port out of range", args: []string{"-listen", "ping://127.0.0.1:99999"}, want: "invalid port"},
		{name: "no such port", args: []string{"-listen", "ping://127.0.0.1:nowhere"}, want: "nowhere"},
		{name: "not our address", args: []string{"-listen", "ping://192.0.2.1:0"}, want: "cannot assign requested address"},
		{name: "listener twice", args: []string{"-listen", loopback, "-listen", loopback}, want: "is named twice"},
		{name: "no parent directory", want: "no such file or directory", make: func(t *testing.T, s *space) *exec.Cmd {
			s.dir = filepath.Join(s.base, "a", "b")
			return s.serve()
		}},
		{name: "a file", want: "is not a directory", make: func(t *testing.T, s *space) *exec.Cmd {
			write(t, s.dir, "")
			return s.serve()
		}},
		{name: "path too long", want: "workspace path is too long for a socket", make: func(t *testing.T, s *space) *exec.Cmd {
			s.dir = filepath.Join(s.base, strings.Repeat("x", 100))
			return s.serve()
		}},
		{name: "writable by others", want: "can be written by others (mode 0777)", make: func(t *testing.T, s *space) *exec.Cmd {
			os.Mkdir(s.dir, 0o777)
			os.Chmod(s.dir, 0o777)
			return s.serve()
		}},
		{name: "run writable by others", want: "can be written by others", make: func(t *testing.T, s *space) *exec.Cmd {
			os.MkdirAll(s.path("run"), 0o777)
			os.Chmod(s.path("run"), 0o777)
			return s.serve()
		}},
		{name: "of another user", want: fmt.Sprintf("belongs to uid 0, and this process runs as %d", nobody), make: func(t *testing.T, s *space) *exec.Cmd {
			os.Mkdir(s.dir, 0o755)
			s.open()
			return asNobody(t, s.serve())
		}},
		{name: "not writable", want: "is not writable", make: func(t *testing.T, s *space) *exec.Cmd {
			os.Mkdir(s.dir, 0o755)
			s.open()
			cmd := asNobody(t, s.serve())
			if err := os.Chown(s.dir, nobody, nobody); err != nil {
				t.Fatal(err)
			}
			os.Chmod(s.dir, 0o500)
			return cmd
		}},
		{name: "not allowed to look", want: "permission denied", make: func(t *testing.T, s *space) *exec.Cmd {
			return asNobody(t, s.serve()) // the space is 0700
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			cmd := s.command(programs.server, append([]string{"-w", s.dir}, tt.args...)...)
			if tt.make != nil {
				cmd = tt.make(t, s)
			}
			r := s.runAs(cmd)
			if r.code != 1 || r.stdout != "" || !strings.HasPrefix(r.stderr, "server: ") || !strings.Contains(r.stderr, tt.want) || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("exit %d, want 1 and one line with %q; stdout %q, stderr %q", r.code, tt.want, r.stdout, r.stderr)
			}
		})
	}
	dial(t, busy.addr(loopback)).ping(1)
}

// serve is the command of an ordinary start.
func (s *space) serve() *exec.Cmd {
	return s.command(programs.server, "-w", s.dir, "-listen", loopback)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The longest path that a socket can have is not an error.
func TestLongestWorkspacePath(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	room := 107 - len(s.base) - len("//run/000000.control")
	s.dir = filepath.Join(s.base, strings.Repeat("x", room))
	s.start()
	s.upgrade()
	dial(t, s.addr(loopback)).ping(1)
}

// A relative workspace means the same to the successor.
func TestRelativeWorkspace(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := s.command(programs.server, "-listen", loopback) // -w . by default
	cmd.Dir = s.dir
	s.awaitReady(s.launch(cmd))
	c := dial(t, s.addr(loopback))
	c.ping(1)
	s.upgrade()
	c.ping(1)
}

// A journal that cannot be read is set aside, under another name, and hinders nobody.
func TestUnreadableJournal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		aside string
		want  string
	}{
		{"no journal at all", func(t *testing.T, path string) { write(t, path, "this is no journal\n") }, "damaged", "file is damaged"},
		{"zeros", func(t *testing.T, path string) { write(t, path, repeat("\x00", 64<<10)) }, "damaged", "file is damaged"},
		{"cut off", func(t *testing.T, path string) {
			if err := os.Truncate(path, 5000); err != nil {
				t.Fatal(err)
			}
		}, "damaged", "file is damaged"},
		{"newer version", func(t *testing.T, path string) {
			db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("run")).Put([]byte("schema"), []byte("99")) }); err != nil {
				t.Fatal(err)
			}
		}, "newer", "file is from a newer version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			s.start()
			s.stop()
			tt.spoil(t, s.path("journal", "000001.db"))
			spoilt, _ := os.ReadFile(s.path("journal", "000001.db"))

			p := s.start()
			c := dial(t, s.addr(loopback))
			c.ping(1)
			if st := s.status(); st.Run != 2 || st.Journal != "ok" {
				t.Errorf("%+v", st)
			}
			s.awaitLog("set aside", tt.want)
			if p.stderr.String() != "" {
				t.Errorf("stderr: %q", p.stderr.String())
			}
			kept, err := os.ReadFile(s.path("journal", "000001.db."+tt.aside))
			if err != nil || string(kept) != string(spoilt) {
				t.Errorf("the file was not kept as it was: %v, %d bytes of %d", err, len(kept), len(spoilt))
			}
			s.upgrade()
			c.ping(1)
			if st := s.status(); st.Run != 3 {
				t.Errorf("run %d, want 3", st.Run)
			}
		})
	}
}

// frames that are none, as the first words on conn.sock.
func badFrames() map[string][]byte {
	header := func(typ byte, flags uint16, length uint32, payload string) []byte {
		return append([]byte{'B', 'A', 'T', 'N', 1, typ, byte(flags >> 8), byte(flags), byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)}, payload...)
	}
	return map[string][]byte{
		"nothing":               nil,
		"one byte":              {0},
		"half a header":         []byte("BATN\x01\x01"),
		"other magic":           []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"type 0":                header(0, 0, 0, ""),
		"unknown type":          header(238, 0, 0, ""),
		"unknown flags":         header(1, 0x8000, 0, ""),
		"shorter than it says":  header(1, 0, 1000, "short"),
		"longer than it says":   header(1, 0, 1, "longer"),
		"4 GB":                  header(1, 0, 1<<32-1, ""),
		"payload outside, none": header(1, 1, 100, ""),
		"no CBOR":               header(1, 0, 4, "\xff\xff\xff\xff"),
		"CBOR of another kind":  header(1, 0, 1, "\x01"),
		"a huge array":          header(1, 0, 6, "\xa1\x01\x9a\xff\xff\xff"),
		"other version":         append([]byte("BATN\x63\x03\x00\x00\x00\x00\x00\x01"), 0xa0),
		"BYE":                   header(9, 0, 3, "\xa1\x01\x01"),
		"an empty HELLO":        header(1, 0, 1, "\xa0"),
		"100 kB":                header(1, 0, 100_000, repeat("x", 100_000)),
	}
}

func TestBadFramesOnTheHandoffSocket(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.start()
	c := dial(t, s.addr(loopback))
	c.ping(1)
	waitFor(t, patience, "one session", func() bool { return s.status().Sessions == 1 })
	before := descriptors(t, p.pid())
	for name, frame := range badFrames() {
		for _, withFDs := range []int{0, 3, 250} {
			knock(t, s.path("conn.sock"), name, frame, withFDs)
		}
	}
	c.ping(1)
	checkDescriptors(t, s, before)
	if st := s.status(); st.Run != 1 || st.State != "Serving" {
		t.Errorf("%+v", st)
	}
	s.upgrade()
	c.ping(1)
	s.replay()
}

// knock sends a frame with some descriptors, and waits for the server to hang up.
func knock(t *testing.T, path, name string, frame []byte, withFDs int) {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer c.Close()
	var rights []byte
	if withFDs > 0 {
		fds := make([]int, withFDs)
		for i := range fds {
			fds[i] = 1
		}
		rights = unix.UnixRights(fds...)
	}
	if len(frame) == 0 {
		c.CloseWrite()
	} else if _, _, err := c.WriteMsgUnix(frame, rights, nil); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 64<<10)
	for { // it may say ABORT first
		n, err := c.Read(buf)
		if n <= 0 || err != nil {
			if os.IsTimeout(err) {
				t.Errorf("%s with %d descriptors: the server does not hang up", name, withFDs)
			}
			return
		}
		if typ := buf[5]; typ != 10 {
			t.Errorf("%s: answered with type %d", name, typ)
		}
	}
}

// Whoever connects and says nothing keeps nobody from upgrading, and is not kept for ever.
func TestSilentVisitors(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.start()
	before := descriptors(t, p.pid())
	var visitors []*net.UnixConn
	for range 50 {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: s.path("conn.sock")})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		visitors = append(visitors, c)
		u, err := net.Dial("unix", s.path("control.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		u.Write([]byte("POST /upg"))
	}
	if r := s.run("-upgrade", "-check"); r.code != 0 {
		t.Errorf("-check exits %d: %s%s", r.code, r.stdout, r.stderr)
	}
	for _, c := range visitors {
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); os.IsTimeout(err) {
			t.Fatal("a silent visitor is kept for ever")
		}
	}
	waitFor(t, patience, "the visitors' descriptors are closed", func() bool { return len(descriptors(t, p.pid())) == len(before) })
	s.upgrade()
}

func TestBadRequestsOnTheControlSocket(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.start()
	c := dial(t, s.addr(loopback))
	c.ping(1)
	before := descriptors(t, p.pid())
	for name, tt := range map[string]struct{ send, want string }{
		"garbage":         {"\x00\xff\x00\xffBATN\r\n\r\n", "400 Bad Request"},
		"half a request":  {"GET /sta", ""},
		"no such path":    {"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404 Not Found"},
		"wrong method":    {"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "405 Method Not Allowed"},
		"relative binary": {"POST /upgrade?binary=server HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "want an absolute path"},
		"huge header":     {"GET /status HTTP/1.1\r\nHost: x\r\nX: " + repeat("x", 100_000) + "\r\n\r\n", "431"},
	} {
		u, err := net.Dial("unix", s.path("control.sock"))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			u.Write([]byte(tt.send))
			u.(*net.UnixConn).CloseWrite()
		}()
		u.SetReadDeadline(time.Now().Add(patience))
		answer := make([]byte, 0, 4096)
		for {
			n, err := u.Read(answer[len(answer):cap(answer)])
			answer = answer[:len(answer)+n]
			if err != nil {
				break
			}
		}
		u.Close()
		if !strings.Contains(string(answer), tt.want) {
			t.Errorf("%s: answer %q, want %q", name, answer, tt.want)
		}
	}
	c.ping(1)
	checkDescriptors(t, s, before)
	s.upgrade()
	c.ping(1)
}

// The directory keeps other users out. Should it be open all the same, the server does.
func TestStrangersAreTurnedAway(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	p := s.start()
	s.open()
	c := dial(t, s.addr(loopback))
	c.ping(1)
	before := descriptors(t, p.pid())
	for _, tt := range []struct{ how, socket, log string }{
		{"hello", "conn.sock", "a process was turned away"},
		{"status", "control.sock", "turned away from the control socket"},
		{"upgrade", "control.sock", "turned away from the control socket"},
	} {
		r := s.runAs(asNobody(t, s.command(programs.stranger, tt.how, s.path(tt.socket))))
		if r.code != 0 || !strings.HasPrefix(r.stdout, "no answer:") {
			t.Errorf("%s: exit %d, %q %q", tt.how, r.code, r.stdout, r.stderr)
		}
		s.awaitLog(tt.log, fmt.Sprintf("uid %d", nobody))
	}
	// The same words of the owner are answered: it is the user that makes the difference.
	if r := s.runAs(s.command(programs.stranger, "status", s.path("control.sock"))); !strings.Contains(r.stdout, "answer: HTTP/1.1 200 OK") {
		t.Errorf("the owner gets %q %q", r.stdout, r.stderr)
	}
	c.ping(1)
	checkDescriptors(t, s, before)
	if st := s.status(); st.Run != 1 || st.LastHandoff != nil {
		t.Errorf("%+v", st)
	}
	os.Chmod(s.dir, 0o700)
	os.Chmod(s.path("run"), 0o700)
	s.upgrade()
	c.ping(1)
}

// A server that is not ours is not believed either: the tools refuse to talk to a socket that another user serves.
func TestForeignServerIsNotAsked(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := asNobody(t, s.serve())
	os.Chmod(s.base, 0o755)
	if err := os.Chown(s.dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s.awaitReady(s.launch(cmd))
	for _, args := range [][]string{{"-status"}, {"-upgrade"}} {
		if r := s.run(args...); r.code != 1 || !strings.Contains(r.stderr, fmt.Sprintf("peer is of another user: uid %d", nobody)) {
			t.Errorf("%v: exit %d, %q %q", args, r.code, r.stdout, r.stderr)
		}
	}
}
