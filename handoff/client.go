package handoff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrNoServer says that no server is running in a workspace. One that is there and cannot be reached is another error.
var ErrNoServer = errors.New("no server is running")

// A Client talks to whichever run serves a workspace at the time of each call, over its control socket. It holds no connection in between,
// need not be closed, and may be used by several goroutines at once.
type Client struct {
	ws   *workspace
	http *http.Client
}

// NewClient makes a client for the server of the workspace dir. It does not look yet whether a server is there.
func NewClient(dir string) *Client {
	return newClient(dir, "control.sock")
}

// newClient makes a client of one socket, by its path in the workspace.
func newClient(dir string, socket ...string) *Client {
	ws := &workspace{dir}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", ws.path(socket...))
		if err != nil {
			return nil, explainDial(ws, err)
		}
		if _, err := credentials(c.(*net.UnixConn)); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	}
	return &Client{ws, &http.Client{Transport: &http.Transport{
		DialContext: dial, DisableKeepAlives: true, ResponseHeaderTimeout: answerTimeout,
	}}}
}

// answerTimeout is how long a server may take to begin its answer. It says at once that an upgrade was begun.
const answerTimeout = 15 * time.Second

// explainDial tells whether nobody is there, or somebody who cannot be reached.
func explainDial(ws *workspace, err error) error {
	if !isNobody(err) {
		return fmt.Errorf("the server in %s cannot be reached: %w", ws.dir, err)
	}
	if pid := ws.holder(); pid > 0 {
		return fmt.Errorf("a server (pid %d) is running in %s, but its control socket was removed, or is not there yet (%w); "+
			"an upgrade puts it back: kill -USR2 %d", pid, ws.dir, err, pid)
	}
	return fmt.Errorf("%w in %s (%w)", ErrNoServer, ws.dir, err)
}

// Status asks the server how it is. The error is ErrNoServer if there is none.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	body, err := c.do(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return s, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return s, fmt.Errorf("handoff: status: %w", err)
	}
	return s, nil
}

// An UpgradeRequest says what to upgrade to.
type UpgradeRequest struct {
	Binary string // absolute path; "" = as the server was started
	Check  bool   // only say whether it would work
	By     string // who asks, for the journal; "" = "POST /upgrade"
}

// Upgrade asks the server to hand over, and returns the outcome when the successor serves or the attempt has failed: an upgrade that was
// rolled back is not an error, see Handoff.Succeeded. Meanwhile it calls progress, on this goroutine, a few times a second; nil = nobody
// wants to know. The end of ctx ends the waiting, not the upgrade.
//
// The error is ErrNoServer if there is no server, ErrBusy if an upgrade is in progress already, and any other if the server refused the
// request or ended before it could tell the outcome.
func (c *Client) Upgrade(ctx context.Context, req UpgradeRequest, progress func(Progress)) (h Handoff, err error) {
	q := url.Values{}
	if req.Binary != "" {
		q.Set("binary", req.Binary)
	}
	if req.Check {
		q.Set("check", "true")
	}
	if req.By != "" {
		q.Set("by", req.By)
	}
	body, err := c.do(ctx, http.MethodPost, "/upgrade", q)
	if err != nil && ctx.Err() != nil {
		return h, fmt.Errorf("handoff: the upgrade was asked for, and may go on, but nobody waits for the outcome (%w); see -status and -replay", err)
	}
	if err != nil {
		return h, err
	}
	defer body.Close()
	for updates := json.NewDecoder(body); ; {
		var u Update
		switch err := updates.Decode(&u); {
		case err != nil && ctx.Err() != nil:
			return h, fmt.Errorf("handoff: the upgrade goes on, but nobody waits for the outcome (%w); see -status and -replay", err)
		case err != nil:
			return h, fmt.Errorf("handoff: the server ended without telling how the upgrade went (%w); see -status and -replay", err)
		case u.Result != nil:
			return *u.Result, nil
		case u.Progress != nil && progress != nil:
			progress(*u.Progress)
		}
	}
}

// journalOf returns a snapshot of the journal of the run that is asked. The caller closes it.
func (c *Client) journalOf(ctx context.Context) (io.ReadCloser, error) {
	return c.do(ctx, http.MethodGet, "/journal", nil)
}

// do returns the body of an answer, which the caller closes. A refusal is an error, with the server's words.
func (c *Client) do(ctx context.Context, method, path string, q url.Values) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://workspace"+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // the URL is ours, and tells nobody anything
	}
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() && ctx.Err() == nil {
		return nil, fmt.Errorf("the server (pid %d) does not answer within %v: it is stopped, hangs, or can open no more files", c.ws.pid(), answerTimeout)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	reason := strings.TrimSpace(string(text))
	if resp.StatusCode == http.StatusConflict {
		return nil, fmt.Errorf("%w", busyError(reason))
	}
	return nil, fmt.Errorf("handoff: %s %s: %s", method, path, reason)
}

// busyError is ErrBusy with the server's own words.
type busyError string

func (e busyError) Error() string        { return string(e) }
func (e busyError) Is(target error) bool { return target == ErrBusy }
