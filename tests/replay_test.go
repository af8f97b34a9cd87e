package tests

import (
	"encoding/json"
	"strings"
	"testing"
)

// What others script against.
func TestStatusJSON(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start()
	dial(t, s.addr(loopback)).ping(1)
	s.upgrade()
	r := s.run("-status")
	var st struct {
		State     *string
		Run       *int
		PID       *int
		Version   *string
		Sessions  *int
		Listeners []struct{ URL, Addr *string }
		Last      *struct {
			ID, Result *string
			Moved      *int
			Pause      *struct{ P50, P99, P999, Max *int64 } `json:"pause_us"`
			Took       *float64                              `json:"took_ms"`
			Total      *float64                              `json:"total_ms"`
		} `json:"last_handoff"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &st); err != nil || r.code != 0 {
		t.Fatalf("exit %d, %v: %s", r.code, err, r.stdout)
	}
	l := st.Last
	if st.State == nil || st.Run == nil || st.PID == nil || st.Version == nil || st.Sessions == nil || len(st.Listeners) != 1 ||
		st.Listeners[0].URL == nil || st.Listeners[0].Addr == nil || l == nil || l.ID == nil || l.Result == nil || l.Moved == nil ||
		l.Took == nil || l.Total == nil || l.Pause == nil || l.Pause.P50 == nil || l.Pause.P99 == nil || l.Pause.P999 == nil || l.Pause.Max == nil {
		t.Fatalf("something is missing: %s", r.stdout)
	}
	if *st.State != "Serving" || *st.Run != 2 || *st.PID != s.pid() || *st.Version != versionOne || *st.Sessions != 1 ||
		*l.Result != "done" || *l.Moved != 1 || *l.Took <= 0 || *l.Total < *l.Took || *l.Pause.Max <= 0 {
		t.Errorf("something is wrong: %s", r.stdout)
	}
}

// The story is told of a server that runs, of one that has stopped, and of one that was killed.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.rude = true
	if r := s.run("-replay"); r.code != 1 || !strings.HasPrefix(r.stderr, "server: no journal in "+s.dir) || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("without a workspace: exit %d, %q", r.code, r.stderr)
	}
	s.start("-probation", "300ms")
	for range 100 { // two batches
		dial(t, s.addr(loopback)).ping(1)
	}
	s.upgrade()

	check := func(when string) {
		t.Helper()
		r := s.run("-replay")
		if r.code != 0 {
			t.Errorf("%s: exit %d: %s", when, r.code, r.stderr)
		}
		for _, want := range []string{"predecessor", "successor", "Serving", "Transferring", "Draining", "100"} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("%s: %q is not told:\n%s", when, want, r.stdout)
			}
		}
		r = s.run("-replay", "-json")
		var story struct {
			Handoff struct {
				Result  string
				Moved   int
				Trigger string
				Batches []struct {
					Given int
					Pause *struct{ Max int64 } `json:"pause_us"`
				}
			}
			Runs     []struct{ Run int }
			Problems []string
		}
		if err := json.Unmarshal([]byte(r.stdout), &story); err != nil || r.code != 0 {
			t.Fatalf("%s: exit %d, %v: %s", when, r.code, err, r.stdout)
		}
		h := story.Handoff
		if h.Result != "done" || h.Moved != 100 || len(h.Batches) < 2 || len(story.Runs) != 2 || len(story.Problems) != 0 {
			t.Errorf("%s: %+v", when, story)
		}
		given := 0
		for _, b := range h.Batches {
			if given += b.Given; b.Given == 0 || b.Pause == nil || b.Pause.Max <= 0 {
				t.Errorf("%s: batch %+v", when, b)
			}
		}
		if given != 100 {
			t.Errorf("%s: the batches are %d sessions in all, want 100", when, given)
		}
	}
	check("in probation")
	s.alone()
	check("running")
	s.kill(s.pid())
	check("killed")
}
