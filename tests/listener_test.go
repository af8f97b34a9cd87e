package tests

import (
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// freePort returns an address that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestListenersChange(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start("-probation", "1s", "-read-timeout", "1m")
	old := s.addr(loopback)
	kept := dial(t, old) // a session outlives the listener that it came by
	kept.ping(1)

	// Two are added.
	urls := []string{"ping://" + freePort(t), "ping://" + freePort(t)}
	s.upgrade("-binary", s.script("more", "exec "+programs.server+` "$@" -listen `+urls[0]+" -listen "+urls[1]))
	if got := s.status().Listeners; len(got) != 3 {
		t.Errorf("listeners %+v, want the old one and two new ones", got)
	}
	for _, url := range append(urls, loopback) {
		dial(t, s.addr(url)).ping(1)
	}
	s.alone()

	// They stay, though the run's own flags are not the first run's: the successor is started as its predecessor was.
	s.upgrade()
	if got := s.status().Listeners; len(got) != 3 {
		t.Errorf("listeners %+v, want 3", got)
	}

	// Two are taken away. Until the end of probation the old run could come back, so they stay; and whoever dials meanwhile is served.
	s.upgrade("-binary", s.script("fewer", "exec "+programs.server+" -w "+s.dir+" -probation 1s -read-timeout 1m -listen "+urls[1]))
	last := dial(t, old)
	last.ping(1)
	var dialling sync.WaitGroup
	var cut atomic.Int32
	for range 8 {
		dialling.Go(func() {
			for {
				switch err := visit(old); {
				case errors.Is(err, syscall.ECONNREFUSED):
					return // closed
				case errors.Is(err, syscall.ECONNRESET):
					cut.Add(1)
				case err != nil:
					t.Error(err)
					return
				}
			}
		})
	}
	s.alone()
	dialling.Wait()
	if n := cut.Load(); n > 2 { // the close is not one with the last accept: see conn.Server.CloseListener
		t.Errorf("%d dials of a listener that was about to be closed were reset", n)
	}
	waitFor(t, patience, "one listener is left", func() bool { l := s.status().Listeners; return len(l) == 1 && l[0].URL == urls[1] })
	for _, url := range []string{old, strings.TrimPrefix(urls[0], "ping://")} {
		if c, err := tryDial(url); err == nil {
			c.Close()
			t.Errorf("%s is still open", url)
		}
	}
	dial(t, s.addr(urls[1])).ping(1)
	kept.ping(1)
	last.ping(1)
	s.replay()
}
