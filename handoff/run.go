package handoff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"baton/conn"
	"baton/fsm"
	"baton/journal"

	"golang.org/x/sys/unix"
)

var (
	// ErrOccupied says that another server lives in the workspace.
	ErrOccupied = errors.New("workspace is in use")
	// ErrBusy says that an upgrade is going on already.
	ErrBusy = errors.New("an upgrade is in progress")
	// ErrGaveUp says that this process was to be a successor, and will not be.
	ErrGaveUp = errors.New("successor gave up")

	// errChecked ends a successor that was only to say whether it would do: it would.
	errChecked = errors.New("an upgrade would work")
)

// A run is one process of the server, from start to exit.
type run struct {
	cfg     Config
	ws      *workspace
	log     *slog.Logger
	closers []func()

	after   int // the number of the predecessor; ours is above it
	number  int
	build   build
	journal *journal.Journal
	fsm     *fsm.Machine
	srv     *conn.Server
	lock    *os.File // the workspace's
	socket  *net.UnixListener
	control *controlServer

	requests chan *request // to upgrade
	gaveBack chan string   // why this run has given back all that it had; capacity 1
	usr2     chan os.Signal
	busy     atomic.Bool // an upgrade was asked for, and is not over
	handed   atomic.Bool // our successor serves
	stopping atomic.Bool // a plain stop has begun
	talk     atomic.Pointer[conversation]

	background sync.WaitGroup // what close waits for before it closes the journal

	mu          sync.Mutex // guards what follows
	predecessor *taking    // as long as it is there
	last        *Handoff   // the newest that is over, or has got as far as DONE
	current     *giving    // the handoff to our successor
}

// Run serves until ctx ends, or until a successor has taken over. SIGUSR2 starts an upgrade, as POST /upgrade on the control socket does.
// When ctx ends, it stops gracefully: what was written to clients is sent. It returns nil in both cases.
//
// The error is ErrOccupied if another server lives in the workspace, and ErrGaveUp if this process was started as a successor and cannot
// be one; the predecessor goes on then.
func Run(ctx context.Context, cfg Config) (err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return err
	}
	r := &run{cfg: cfg, requests: make(chan *request), gaveBack: make(chan string, 1), usr2: make(chan os.Signal, 1)}
	signal.Notify(r.usr2, syscall.SIGUSR2)
	defer signal.Stop(r.usr2)
	// A process that outlives the one that reads its output must not die of that. (Ignore would be inherited by what it starts.)
	sigpipe := make(chan os.Signal, 1)
	signal.Notify(sigpipe, syscall.SIGPIPE)
	defer signal.Stop(sigpipe)
	err = r.live(ctx)
	r.close(err) // not deferred: a panic ends nothing that the other side of a handoff may go on with
	return err
}

// live is the run from start to exit, but for what close does.
func (r *run) live(ctx context.Context) error {
	switch err := r.begin(ctx); {
	case err == errChecked:
		return r.fsm.Move(context.WithoutCancel(ctx), fsm.Exited, err.Error())
	case err != nil:
		return err
	}
	return r.serve(ctx)
}

// begin brings the run to Serving.
func (r *run) begin(ctx context.Context) (err error) {
	if r.ws, err = openWorkspace(r.cfg.Workspace); err != nil {
		return err
	}
	role, hello, err := r.findPredecessor()
	if err != nil {
		return err
	}
	if err := r.prepare(role); err != nil {
		if hello != nil {
			hello.Close()
		}
		return err
	}
	if hello != nil {
		return r.succeed(ctx, hello, role)
	}
	return r.first(ctx)
}

// prepare makes all that a run has, whether it is a first one or a successor.
func (r *run) prepare(how role) error {
	if err := r.openLog(); err != nil {
		return err
	}
	r.build = thisBuild(r.cfg.Version)
	j, err := journal.Create(r.ws.path("journal"), journal.Run{
		Binary: r.build.path, SHA256: fmt.Sprintf("%x", r.build.sha256), Version: r.build.version,
	}, journal.Options{After: r.after, Logger: r.log})
	if err != nil {
		return err
	}
	r.journal, r.number = j, j.Number()
	r.log = r.log.With("run", r.number)
	r.log.Info("starting", "pid", os.Getpid(), "as", string(how), "version", r.build.version)
	r.fsm = fsm.New(fsm.Hooks{Journal: r.journalMove, Entered: func(m fsm.Move) {
		r.log.Info("state", "from", string(m.From), "to", string(m.To), "why", m.Why)
		if m.Unrecorded != nil {
			r.log.Error("this move is not in the journal", "error", m.Unrecorded)
		}
	}})
	r.srv, err = conn.New(conn.Config{
		Run: r.number, Protocols: r.cfg.Protocols, Loops: r.cfg.Loops, Log: r.log,
		ReadTimeout: r.cfg.ReadTimeout, WriteTimeout: r.cfg.WriteTimeout, Opened: r.sessionOpened, Closed: r.sessionClosed,
	})
	if err != nil {
		return err
	}
	if r.socket, err = listenUnix("unixpacket", r.ws.socket(r.number)); err != nil {
		return err
	}
	if r.control, err = r.serveControl(); err != nil {
		return err
	}
	go r.answerDoor(r.socket)
	return nil
}

func (r *run) openLog() error {
	if r.cfg.Log != nil {
		r.log = r.cfg.Log
		return nil
	}
	f, err := os.OpenFile(r.ws.path("server.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("workspace: %w", err)
	}
	r.closers = append(r.closers, func() { f.Close() })
	r.log = slog.New(slog.NewTextHandler(f, nil))
	return nil
}

// journalMove has a move in the journal before it takes effect. An open move, a way back or a stop, does not depend on it, and does not
// wait for a disk that is known to be in trouble.
func (r *run) journalMove(m fsm.Move) error {
	event := journal.Move{From: string(m.From), To: string(m.To), Why: m.Why}
	if m.Open && r.journal.Err() != nil {
		r.journal.Record(event)
		return nil
	}
	err := r.commit(event)
	if err != nil && m.Open {
		r.journal.Record(event) // Commit has taken it back
	}
	return err
}

// commit has an event in the journal before an act.
func (r *run) commit(data journal.Data) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), r.cfg.Timeouts.Journal, errors.New("the disk does not answer"))
	defer cancel()
	return r.journal.Commit(ctx, data)
}

// first is a start without a predecessor.
func (r *run) first(ctx context.Context) error {
	for _, url := range r.cfg.Listen {
		l, err := r.srv.Listen(url)
		if err != nil {
			return explainListen(err)
		}
		r.journal.Record(journal.Listener{URL: l.URL, Addr: l.Addr.String(), How: journal.Bound})
	}
	if err := r.fsm.Move(ctx, fsm.Serving, string(roleFirst)); err != nil {
		return err
	}
	if err := r.ws.point(r.number, os.Getpid()); err != nil {
		return err
	}
	r.srv.Accept()
	r.ready(0)
	r.background.Go(r.reconcilePast)
	return nil
}

func explainListen(err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w; another process has the port: choose another -listen, or stop it", err)
	}
	return err
}

func (r *run) ready(predecessor int) {
	ready := Ready{Run: r.number, Predecessor: predecessor, Sessions: r.srv.Len(), Listeners: r.listenerStatus()}
	r.log.Info("serving", "sessions", ready.Sessions, "predecessor", predecessor)
	r.cfg.Ready(ready)
}

// How much of the past is kept: files older than this, or beyond this size in all, are removed.
const (
	journalAge   = 90 * 24 * time.Hour
	journalBytes = 1 << 30
)

// prune removes journals of long ago.
func (r *run) prune() {
	removed, err := journal.Prune(r.ws.path("journal"), journal.Limits{Age: journalAge, Bytes: journalBytes})
	if len(removed) > 0 || err != nil {
		r.log.Info("journals removed", "files", removed, "error", err)
	}
}

// serve is the life of a run that serves: one goroutine owns it, and does one thing at a time.
func (r *run) serve(ctx context.Context) error {
	r.background.Go(r.prune)
	go r.ws.sweep()
	for {
		var req *request
		select {
		case <-ctx.Done():
			return r.stop("asked to stop")
		case why := <-r.gaveBack:
			return fmt.Errorf("%w: %s", ErrGaveUp, why)
		case <-r.usr2:
			if !r.busy.CompareAndSwap(false, true) {
				r.log.Warn("SIGUSR2 ignored", "error", ErrBusy)
				continue
			}
			req = newRequest("SIGUSR2")
		case req = <-r.requests:
		}
		gone := r.upgrade(ctx, req)
		r.busy.Store(false)
		if gone {
			return nil
		}
	}
}

// stop is a plain stop: flush, then close.
func (r *run) stop(why string) error {
	r.stopping.Store(true)
	if err := r.partFromPredecessor(context.Background()); err != nil {
		r.log.Error("stopping without the predecessor's leave", "error", err)
	}
	if err := r.fsm.Move(context.Background(), fsm.Draining, why); err != nil {
		r.log.Error("stopping all the same", "error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Timeouts.Stop)
	defer cancel()
	if err := r.srv.Shutdown(ctx); err != nil {
		r.log.Warn("some clients did not take what was written to them, and were reset", "within", r.cfg.Timeouts.Stop)
	}
	if err := r.fsm.Move(context.Background(), fsm.Exited, why); err != nil {
		r.log.Error("exiting all the same", "error", err)
	}
	return nil
}

// close undoes prepare, as far as it went.
func (r *run) close(err error) {
	if r.fsm != nil && err != nil && r.fsm.State() != fsm.Exited {
		r.fsm.Move(context.Background(), fsm.Exited, err.Error())
	}
	if r.socket != nil {
		r.socket.Close()
	}
	if r.control != nil {
		r.control.close()
	}
	switch {
	case r.srv == nil:
	case errors.Is(err, ErrGaveUp):
		r.srv.Leave() // what was given to us is about to be taken back
	default:
		r.srv.Close()
	}
	r.background.Wait()
	if r.journal != nil {
		if jerr := r.journal.Close(); jerr != nil {
			r.log.Error("the journal was not closed properly", "error", jerr)
		}
		r.ws.leave(r.number, os.Getpid())
	}
	if r.lock != nil {
		r.lock.Close()
	}
	if r.log != nil {
		r.log.Info("exiting", "error", err)
	}
	for _, f := range r.closers {
		f()
	}
}

// Sessions, as conn tells of them. These are called with the session locked.

func (r *run) sessionOpened(i conn.Info) {
	r.journal.Opened(journal.Session{ID: journal.ID(i.ID), Peer: i.Peer, Protocol: i.Protocol, Opened: i.Opened})
	if talk := r.talk.Load(); talk != nil {
		talk.noteOpened(i.ID)
	}
}

func (r *run) sessionClosed(i conn.Info, reason error) {
	text := "end of stream"
	if reason != nil && !errors.Is(reason, io.EOF) {
		text = reason.Error()
		r.log.Info("session closed", "session", i.ID, "peer", i.Peer, "protocol", i.Protocol, "reason", text)
	}
	r.journal.Closed(uint64(i.ID), text, i.Read, i.Written)
	if talk := r.talk.Load(); talk != nil {
		talk.noteClosed(i.ID)
	}
}
