package crowd_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"baton/tests/bench/internal/crowd"
	"baton/tests/bench/internal/rival"
)

func server(t *testing.T) string {
	t.Helper()
	addr, err := rival.NewPlain(false).Listen()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func open(t *testing.T, addr string, n int) *crowd.Crowd {
	t.Helper()
	c, err := crowd.Open(addr, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPacedCrowd(t *testing.T) {
	c := open(t, server(t), 20)
	c.Pace(50 * time.Millisecond)
	time.Sleep(500 * time.Millisecond)
	r := c.Rest()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	if r.Frames < 100 || r.Frames > 260 || int64(len(r.Samples)) != r.Frames || r.Latency.TotalCount() != r.Frames {
		t.Errorf("%d frames in half a second of 400 a second, %d samples, %d latencies", r.Frames, len(r.Samples), r.Latency.TotalCount())
	}
	time.Sleep(100 * time.Millisecond)
	if r := c.Take(); r.Frames != 0 {
		t.Errorf("%d frames at rest", r.Frames)
	}
}

func TestClosedCrowd(t *testing.T) {
	c := open(t, server(t), 10)
	c.Loop()
	time.Sleep(100 * time.Millisecond)
	if r := c.Rest(); r.Err != nil || r.Frames < 20 || len(r.Samples) != 0 {
		t.Errorf("%d frames, %d samples, %v", r.Frames, len(r.Samples), r.Err)
	}
}

// A server that stands still is charged for every ping that was due meanwhile, not only for the one that it keeps waiting.
func TestLatencyOfAServerThatStandsStill(t *testing.T) {
	const still, interval = 400 * time.Millisecond, 20 * time.Millisecond
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	begin := make(chan struct{})
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var b [4]byte
		for stood := false; ; {
			if _, err := conn.Read(b[:]); err != nil {
				return
			}
			select {
			case <-begin:
				if !stood {
					stood = true
					time.Sleep(still)
				}
			default:
			}
			conn.Write([]byte("pong"))
		}
	}()
	c := open(t, ln.Addr().String(), 1)
	close(begin)
	c.Pace(interval)
	time.Sleep(still + 10*interval)
	r := c.Rest()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	slow := 0
	for _, s := range r.Samples {
		if s.Latency > int64(still/4) {
			slow++
		}
	}
	if slow < 10 || slow > 20 { // three quarters of the 20 that were due
		t.Errorf("%d of %d answers were slow, want about 15", slow, len(r.Samples))
	}
}

func TestWrongBytesFailTheCrowd(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var b [4]byte
		for answer := "pong"; ; answer = "pang" {
			if _, err := conn.Read(b[:]); err != nil {
				return
			}
			conn.Write([]byte(answer))
		}
	}()
	c := open(t, ln.Addr().String(), 1)
	c.Loop()
	time.Sleep(50 * time.Millisecond)
	if r := c.Rest(); r.Err == nil || !strings.Contains(r.Err.Error(), "pang") {
		t.Errorf("got %v", r.Err)
	}
}

func TestVisit(t *testing.T) {
	quit, visits := make(chan struct{}), 0
	err := crowd.Visit(server(t), quit, func(n int) {
		if visits += n; visits > 500 && quit != nil {
			select {
			case <-quit:
			default:
				close(quit)
			}
		}
	})
	if err != nil || visits < 500 {
		t.Errorf("%d visits, %v", visits, err)
	}
}
