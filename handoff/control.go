package handoff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
)

// The control API is HTTP over the Unix socket control.sock, for the owner of the workspace only.
//
//	GET  /status    → Status
//	POST /upgrade   → a line of JSON for each Update; ?binary=PATH (absolute), ?check=true, ?by=WHO
//	GET  /journal   → a consistent copy of this run's journal file
//
// An upgrade that cannot be begun now is answered with 409 Conflict and the reason. One that has begun goes on when whoever asked hangs up.

// An Update is a line of what POST /upgrade answers: how far it is, and in the last line how it went. One of the two is set.
type Update struct {
	Progress *Progress `json:"progress,omitempty"`
	Result   *Handoff  `json:"result,omitempty"`
}

type controlServer struct {
	http    http.Server
	serving sync.WaitGroup
}

func (r *run) serveControl() (*controlServer, error) {
	l, err := listenUnix("unix", r.ws.control(r.number))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", r.handleStatus)
	mux.HandleFunc("POST /upgrade", r.handleUpgrade)
	mux.HandleFunc("GET /journal", r.handleJournal)
	c := &controlServer{}
	c.http = http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelWarn),
	}
	c.serve(&ownersOnly{l, r.log})
	return c, nil
}

// serve answers at one more listener, until close.
func (c *controlServer) serve(l net.Listener) { c.serving.Go(func() { c.http.Serve(l) }) }

// close lets answers that are under way be finished, for a moment.
func (c *controlServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.http.Shutdown(ctx) != nil {
		c.http.Close()
	}
	c.serving.Wait()
}

// ownersOnly is a listener that turns away processes of other users.
type ownersOnly struct {
	*net.UnixListener
	log *slog.Logger
}

func (o *ownersOnly) Accept() (net.Conn, error) {
	for {
		c, err := o.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if _, err := credentials(c); err != nil {
			o.log.Warn("a process was turned away from the control socket", "error", err)
			c.Close()
			continue
		}
		return c, nil
	}
}

func (r *run) handleStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(r.status())
}

func (r *run) handleJournal(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := r.journal.Snapshot(w); err != nil {
		r.log.Error("journal snapshot", "error", err)
		panic(http.ErrAbortHandler) // the client must not take what it has for the whole
	}
}

// maxTrigger is how long the words may be that say who asks, in bytes. They go into the journal.
const maxTrigger = 100

func (r *run) handleUpgrade(w http.ResponseWriter, q *http.Request) {
	req := newRequest("POST /upgrade")
	if by := q.URL.Query().Get("by"); by != "" {
		if len(by) > maxTrigger || strings.ContainsFunc(by, unicode.IsControl) {
			http.Error(w, fmt.Sprintf("by: want at most %d bytes in one line", maxTrigger), http.StatusBadRequest)
			return
		}
		req.trigger = by
	}
	switch check := q.URL.Query().Get("check"); check {
	case "", "false":
	case "true":
		req.check = true
	default: // taken for a no it would be an upgrade
		http.Error(w, fmt.Sprintf("check: want true or false, not %q", check), http.StatusBadRequest)
		return
	}
	if req.binary = q.URL.Query().Get("binary"); req.binary != "" && !filepath.IsAbs(req.binary) {
		http.Error(w, "binary: want an absolute path", http.StatusBadRequest)
		return
	}
	if err := r.ask(req); err != nil {
		code := http.StatusServiceUnavailable
		if errors.Is(err, ErrBusy) {
			code = http.StatusConflict
		}
		http.Error(w, err.Error(), code)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines, flush := json.NewEncoder(w), http.NewResponseController(w)
	flush.Flush() // that it was taken
	for {
		select {
		case p := <-req.progress:
			lines.Encode(Update{Progress: &p})
		case h := <-req.result:
			lines.Encode(Update{Result: &h})
			return
		}
		flush.Flush()
	}
}
