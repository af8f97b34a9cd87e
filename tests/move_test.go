package tests

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// What a session is in the middle of when it moves.

// Every client has sent another part of two frames; nobody but the stream knows where a frame ends.
func TestSplitFrameMoves(t *testing.T) {
	t.Parallel()
	const stream = "pingping"
	s := newSpace(t)
	s.start()
	clients := make([]*client, len(stream)+1)
	for i := range clients {
		clients[i] = dial(t, s.addr(loopback))
		clients[i].ping(1) // it is at the server
		clients[i].send(stream[:i])
		clients[i].expect(i / 4)
	}
	for range 3 {
		s.upgrade()
		for i, c := range clients {
			c.expectQuiet()
			c.send(stream[i:] + stream[:i])
			c.expect((i%4 + len(stream)) / 4)
		}
	}
	if st := s.status(); st.Run != 4 || st.LastHandoff == nil || st.LastHandoff.Moved != len(clients) {
		t.Errorf("status after three upgrades of %d sessions: %+v, %+v", len(clients), st, st.LastHandoff)
	}
	for i, c := range clients {
		c.send(stream[i%4:][:(4-i%4)%4])
		c.expect((i%4 + 3) / 4)
		c.ping(1)
	}
}

// Answers that nobody has read are in the client's buffer, in the server's socket, and, the rest, in the server's memory: all of it moves,
// and so does what is still unread of the questions.
func TestUnreadAnswersMove(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 20, 16 << 20} {
		t.Run(fmt.Sprintf("%d MB", size>>20), func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			s.start("-read-timeout", "1m", "-write-timeout", "1m")
			c := dial(t, s.addr(loopback))
			c.SetReadBuffer(16 << 10)
			sent := make(chan error, 1)
			go func() {
				_, err := c.Write([]byte(repeat("ping", size/4)))
				sent <- err
			}()
			time.Sleep(300 * time.Millisecond) // as much as goes into the buffers has gone there
			for range 2 {
				s.upgrade()
			}
			c.expect(size / 4)
			if err := <-sent; err != nil {
				t.Error(err)
			}
			c.ping(1)
		})
	}
}

func TestHalfClosedClientMoves(t *testing.T) {
	t.Parallel()
	for _, size := range []int{4, 1 << 20, 8 << 20} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			s.start("-read-timeout", "1m", "-write-timeout", "1m")
			c := dial(t, s.addr(loopback))
			c.SetReadBuffer(16 << 10)
			sent := make(chan error, 1)
			go func() {
				_, err := c.Write([]byte(repeat("ping", size/4)))
				c.CloseWrite()
				sent <- err
			}()
			time.Sleep(200 * time.Millisecond)
			s.upgrade()
			c.expect(size / 4)
			c.expectEnd()
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

// A timeout that has run for a while goes on with what is left of it: it neither starts anew at a move, nor is it lost.
func TestDeadlinesMove(t *testing.T) {
	t.Parallel()
	const timeout, ran = 4 * time.Second, 2500 * time.Millisecond
	t.Run("read", func(t *testing.T) {
		t.Parallel()
		s := newSpace(t)
		s.start("-read-timeout", timeout.String())
		half, idle, awake := dial(t, s.addr(loopback)), dial(t, s.addr(loopback)), dial(t, s.addr(loopback))
		half.send("pi")
		idle.ping(1)
		since := time.Now()
		time.Sleep(ran / 2)
		s.upgrade()
		awake.ping(1)
		time.Sleep(ran / 2)
		s.upgrade()
		idle.expectEnd()
		checkDuration(t, "idle client", time.Since(since), timeout)
		half.expectEnd()
		checkDuration(t, "client with half a frame", time.Since(since), timeout)
		awake.ping(1)
	})
	t.Run("write", func(t *testing.T) {
		t.Parallel()
		s := newSpace(t)
		s.start("-write-timeout", timeout.String())
		c := dial(t, s.addr(loopback))
		c.SetReadBuffer(4 << 10)
		go c.Write([]byte(repeat("ping", 4<<20)))
		// The clock starts when the last byte went into a buffer. That is soon, and not to be seen from here.
		time.Sleep(500 * time.Millisecond)
		since := time.Now()
		time.Sleep(ran)
		s.upgrade()
		if n := s.status().Sessions; n != 1 {
			t.Fatalf("%d sessions, want 1", n)
		}
		waitFor(t, patience, "the write timeout strikes", func() bool { return s.status().Sessions == 0 })
		if took := time.Since(since); took > timeout+700*time.Millisecond {
			t.Errorf("closed after %v: the timeout of %v began anew at the move", took, timeout)
		} else if took < timeout-700*time.Millisecond {
			t.Errorf("closed after %v, too soon for a timeout of %v", took, timeout)
		}
		s.awaitLog("session closed", "nothing taken within the write timeout")
	})
}

func TestDiallingDuringUpgrades(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start()
	addr := s.addr(loopback)
	over := make(chan struct{})
	var dialling sync.WaitGroup
	var mu sync.Mutex
	dials, failures := 0, []error{}
	for range 4 {
		dialling.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				err := visit(addr)
				mu.Lock()
				if dials++; err != nil {
					failures = append(failures, err)
				}
				mu.Unlock()
				time.Sleep(time.Millisecond) // or the machine runs out of ports
			}
		})
	}
	for range 8 {
		s.upgrade()
	}
	close(over)
	dialling.Wait()
	for _, err := range failures[:min(len(failures), 10)] {
		t.Error(err)
	}
	if len(failures) > 0 || dials < 100 {
		t.Errorf("%d of %d dials failed", len(failures), dials)
	}
	if run := s.status().Run; run != 9 {
		t.Errorf("run %d, want 9", run)
	}
}

// visit dials, pings and leaves in an orderly way.
func visit(addr string) error {
	c, err := tryDial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	if err := expect(c, 1); err != nil {
		return err
	}
	c.CloseWrite()
	return expectEnd(c)
}
