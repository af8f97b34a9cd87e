package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"baton/handoff"
	"baton/journal"
)

// journals reads every run's journal, those of live runs by asking them.
func (s *space) journals() []journal.RunLog {
	logs, _ := journal.ReadAll(s.path("journal"), func(run int) (io.ReadCloser, error) {
		resp, err := s.controlOf(run).Get("http://workspace/journal")
		if err != nil {
			return nil, err
		}
		return resp.Body, nil
	})
	return logs
}

// controlOf is a plain HTTP client of one run's control socket; 0 = of the one that serves.
func (s *space) controlOf(run int) *http.Client {
	path := s.path("control.sock")
	if run > 0 {
		path = s.path("run", fmt.Sprintf("%06d.control", run))
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
}

// replay tells the journals' story, which has to add up.
func (s *space) replay() journal.Timeline {
	s.t.Helper()
	timeline, err := handoff.Replay(context.Background(), s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(timeline.Problems) > 0 {
		s.t.Errorf("the journals do not agree: %s", strings.Join(timeline.Problems, "; "))
	}
	return timeline
}

// eventsOf is what one run's journal says, as text.
func (s *space) eventsOf(run int) string {
	var b strings.Builder
	for _, l := range s.journals() {
		if l.Run.Number != run {
			continue
		}
		if l.Err != nil {
			fmt.Fprintln(&b, l.Err)
		}
		for _, e := range l.Events {
			data, _ := json.Marshal(e.Data)
			fmt.Fprintf(&b, "%d %s %s\n", e.Seq, e.Data.Kind(), data)
		}
	}
	return b.String()
}
