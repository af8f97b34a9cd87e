package handoff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"baton/fsm"
	"baton/journal"
)

// Replay tells from the journals of a workspace what happened, and drives the recorded moves through the state machine again. Runs that
// are alive are asked for a snapshot over their own control sockets, so that it works while the server runs, after it has stopped, and
// after it has crashed. The error says that there is no journal; what is wrong in one is among the Timeline's problems.
func Replay(ctx context.Context, dir string) (journal.Timeline, error) {
	ws := &workspace{dir}
	if _, err := os.Stat(ws.path("journal")); errors.Is(err, fs.ErrNotExist) {
		return journal.Timeline{}, fmt.Errorf("no journal in %s: has a server ever run there (-w)?", dir)
	}
	live := func(run int) (io.ReadCloser, error) {
		return newClient(dir, "run", filepath.Base(ws.control(run))).journalOf(ctx)
	}
	logs, err := journal.ReadAll(ws.path("journal"), live)
	if err != nil {
		return journal.Timeline{}, err
	}
	return journal.Replay(logs, func(from, to string) error { return fsm.Check(fsm.State(from), fsm.State(to)) }), nil
}
