package handoff

import (
	"cmp"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"baton/conn"
)

// Config says what a server is and where it lives. Workspace, Listen and Protocols are needed; the zero value of any other field means
// its default.
type Config struct {
	Workspace string          // directory of its own for each server; made if it does not exist, in a directory that does
	Listen    []string        // URLs, protocol://host:port, each once; an empty host is all addresses, port 0 any port
	Protocols []conn.Protocol // what the listeners may name, and what sessions that come from a predecessor may speak
	Version   string          // of the program, for Status and the journal; "" = not told

	ReadTimeout  time.Duration // a client that sends nothing for so long is closed; 0 = no limit
	WriteTimeout time.Duration // a client that takes nothing for so long is closed; 0 = no limit
	Loops        int           // event loops; 0 = 1
	Timeouts     Timeouts

	// Takeover makes this process the successor of the server that is running in the workspace, if there is one, though that one did not
	// start it. Without it, Run fails with ErrOccupied then.
	Takeover bool

	// Ready is called once, when this process serves. It has to return quickly and must not wait for the server, nor for what asks it
	// something: in a successor the handoff waits for it. nil = nobody wants to know.
	Ready func(Ready)

	// Log is where the server tells people what happens; nil = appended to Workspace/server.log.
	Log *slog.Logger

	// Command is what an upgrade starts: the program's path, which should be absolute, and its arguments. nil = as this process was
	// started; a symbolic link is then followed anew each time. UpgradeRequest.Binary takes the place of the path.
	Command []string
}

// Ready describes a server that has begun to serve.
type Ready struct {
	Run         int
	Predecessor int // run that it took over from; 0 = a first start
	Sessions    int // that are served now: those that came along
	Listeners   []ListenerStatus
}

// Timeouts bound every wait of a handoff, and of a stop. Zero means the default, which stands at the end of each line; none can be switched
// off.
type Timeouts struct {
	Hello     time.Duration // for the successor to become ready, from its start to HELLO; 30 s
	Answer    time.Duration // for the answer to a message; 10 s
	Handoff   time.Duration // from HELLO to DONE, whatever happens; 5 min
	Drain     time.Duration // for stragglers to come to rest; then they are closed; 30 s
	Probation time.Duration // how long copies of the sockets are kept; 5 s
	Beat      time.Duration // between two beats that are asked of the successor; 1 s
	Return    time.Duration // for a successor that fails to give back what it has; then it is killed; 10 s
	Exit      time.Duration // for a successor that was aborted to exit; then it is killed; 5 s
	Retry     time.Duration // until a busy session is tried again; 5 ms
	Journal   time.Duration // for the journal to take what has to be in it before an act; 5 s
	Stop      time.Duration // for clients to take what was written to them, when the server stops; 5 s
}

func (t Timeouts) withDefaults() Timeouts {
	t.Hello = cmp.Or(t.Hello, 30*time.Second)
	t.Answer = cmp.Or(t.Answer, 10*time.Second)
	t.Handoff = cmp.Or(t.Handoff, 5*time.Minute)
	t.Drain = cmp.Or(t.Drain, 30*time.Second)
	t.Probation = cmp.Or(t.Probation, 5*time.Second)
	t.Beat = cmp.Or(t.Beat, time.Second)
	t.Return = cmp.Or(t.Return, 10*time.Second)
	t.Exit = cmp.Or(t.Exit, 5*time.Second)
	t.Retry = cmp.Or(t.Retry, 5*time.Millisecond)
	t.Journal = cmp.Or(t.Journal, 5*time.Second)
	t.Stop = cmp.Or(t.Stop, 5*time.Second)
	return t
}

// startedAs is the path and the arguments of this process. It is evaluated early, before anybody can change the working directory.
// Symbolic links stay: a link that was switched to a new release meanwhile is the new release (os.Executable would follow it).
var startedAs = func() []string {
	path := os.Args[0]
	if strings.ContainsRune(path, '/') {
		path, _ = filepath.Abs(path)
	} else if found, err := exec.LookPath(path); err == nil {
		path, _ = filepath.Abs(found)
	}
	return append([]string{path}, os.Args[1:]...)
}()

func (c Config) withDefaults() (Config, error) {
	if c.Workspace == "" || len(c.Listen) == 0 || len(c.Protocols) == 0 {
		return c, errors.New("handoff: Workspace, Listen and Protocols are needed")
	}
	seen := map[string]bool{}
	for _, url := range c.Listen {
		if seen[url] {
			return c, errors.New("listener " + url + " is named twice")
		}
		seen[url] = true
	}
	c.Timeouts = c.Timeouts.withDefaults()
	if c.Ready == nil {
		c.Ready = func(Ready) {}
	}
	if c.Command == nil {
		c.Command = startedAs
	}
	return c, nil
}
