package handoff

import (
	"cmp"
	"fmt"
	"net"
	"os"
)

// How a process comes to its workspace: as the first, or after another one.

// successorOf, in the environment, tells a process that it is started to be the successor, and by which run.
const successorOf = "BATON_SUCCESSOR_OF"

// role is how a process comes to its workspace.
type role string

const (
	roleFirst    role = "first start"
	roleChild    role = "successor"
	roleTakeover role = "takeover"
)

// findPredecessor looks for a server in the workspace. It returns a connection to it if this process is to be its successor.
func (r *run) findPredecessor() (role, *net.UnixConn, error) {
	if parent := os.Getenv(successorOf); parent != "" {
		os.Unsetenv(successorOf) // not for our own children
		var n int
		if _, err := fmt.Sscan(parent, &n); err != nil {
			return "", nil, fmt.Errorf("%w: %s=%q is not a run's number", ErrGaveUp, successorOf, parent)
		}
		c, err := dialSeqpacket(r.ws.socket(n))
		if err != nil {
			return "", nil, fmt.Errorf("%w: the predecessor cannot be reached: %w", ErrGaveUp, err)
		}
		r.after = n
		return roleChild, c, nil
	}
	c, err := dialSeqpacket(r.ws.path("conn.sock"))
	switch {
	case err == nil && r.cfg.Takeover:
		r.after = r.ws.pointsTo()
		return roleTakeover, c, nil
	case err == nil:
		defer c.Close()
		p, _ := credentials(c)
		return "", nil, r.occupied(p.pid)
	}
	if r.lock, err = r.ws.tryLock(); err != nil {
		return "", nil, err
	}
	if r.lock == nil {
		return "", nil, r.occupied(cmp.Or(r.ws.holder(), r.ws.pid())) // what server.pid says may be of long ago
	}
	return roleFirst, nil, nil
}

func (r *run) occupied(pid int) error {
	return fmt.Errorf("%w: another server (pid %d) is running in %s; use -upgrade to replace it, or another -w", ErrOccupied, pid, r.cfg.Workspace)
}

func dialSeqpacket(path string) (*net.UnixConn, error) {
	return net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
}
