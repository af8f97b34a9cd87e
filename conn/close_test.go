package conn_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"baton/conn"

	"golang.org/x/sys/unix"
)

// However far a move has come, closing either server, or leaving, leaves no descriptor (start checks that), ends what is its own, and
// nothing that is the other's.
func TestCloseInEachPhase(t *testing.T) {
	steps := []struct {
		name string
		do   func(t *testing.T, a, b *conn.Server, ids []conn.ID)
	}{
		{"lent", func(*testing.T, *conn.Server, *conn.Server, []conn.ID) {}},
		{"frozen", func(t *testing.T, a, b *conn.Server, ids []conn.ID) { a.Freeze(ids, nil) }},
		{"taken", offer},
		{"given", func(t *testing.T, a, b *conn.Server, ids []conn.ID) { offer(t, a, b, ids); a.Give(ids) }},
		{"owned", func(t *testing.T, a, b *conn.Server, ids []conn.ID) { offer(t, a, b, ids); give(t, a, b, ids) }},
	}
	ends := map[string]func(*conn.Server) error{"Close": (*conn.Server).Close, "Leave": (*conn.Server).Leave}
	for _, step := range steps {
		for end, doEnd := range ends {
			for _, who := range []string{"giver", "receiver"} {
				t.Run(step.name+" "+end+" "+who, func(t *testing.T) {
					a, _ := start(t, conn.Config{Run: 1})
					b, _ := start(t, conn.Config{Run: 2})
					c := dial(t, listen(t, a, "ping"))
					waitLen(t, a, 1)
					ids := lend(t, a, b)
					step.do(t, a, b, ids)
					ended, other := a, b
					if who == "receiver" {
						ended, other = b, a
					}
					if err := doEnd(ended); err != nil {
						t.Error(err)
					}
					if given, borrowed := ended.Held(); ended.Len()+len(given)+len(borrowed) > 0 {
						t.Errorf("%d sessions are left, %d given, %d borrowed", ended.Len(), len(given), len(borrowed))
					}
					// Whoever owns it now serves it.
					switch {
					case who == "receiver" && step.name != "given" && step.name != "owned":
						a.Thaw(ids)
						a.Unlend(ids)
					case who == "giver" && (step.name == "given" || step.name == "owned"):
						b.Own(ids, nil, func(int64) {})
					default:
						_ = other
						return
					}
					send(t, c, "ping")
					expect(t, c, "pong")
				})
			}
		}
	}
}

// Close ends a session once and for its first reason, wherever it is.
func TestConnCloseInEachPhase(t *testing.T) {
	reason := errors.New("enough")
	for _, when := range []string{"served", "lent", "frozen, then thawed", "frozen, then given", "taken", "given"} {
		t.Run(when, func(t *testing.T) {
			a, ra := start(t, conn.Config{Run: 1})
			b, rb := start(t, conn.Config{Run: 2})
			c := dial(t, listen(t, a, "ping"))
			waitLen(t, a, 1)
			session := a.Get(a.IDs()[0])
			end := func() {
				session.Write([]byte("bye"))
				session.Close(reason)
				session.Close(errors.New("too late"))
			}
			ids, r := []conn.ID{session.ID()}, ra
			switch when {
			case "served":
				end()
			case "lent":
				lend(t, a, b)
				end()
			case "frozen, then thawed":
				lend(t, a, b)
				offer(t, a, b, ids)
				end()
				a.Thaw(ids)
			case "frozen, then given":
				lend(t, a, b)
				offer(t, a, b, ids)
				end()
				give(t, a, b, ids)
				r = rb
			case "taken":
				lend(t, a, b)
				end() // its state says so, if it has not ended yet
				if states, _, _ := a.Freeze(ids, nil); len(states) == 1 {
					if err := b.Take(&states[0]); err != nil {
						t.Fatal(err)
					}
					give(t, a, b, ids)
					r = rb
				}
			case "given":
				move(t, a, b)
				end() // does nothing
				if _, err := session.Write(nil); err != conn.ErrMoved {
					t.Errorf("Write: %v, want ErrMoved", err)
				}
				send(t, c, "ping")
				expect(t, c, "pong")
				return
			}
			expect(t, c, "bye")
			expectEOF(t, c)
			c.Close()
			for _, err := range r.waitClosed(t, 1) {
				if err == nil || err.Error() != reason.Error() {
					t.Errorf("ended with %v, want %v", err, reason)
				}
			}
			if len(ra.waitClosed(t, 0))+len(rb.waitClosed(t, 0)) != 1 {
				t.Error("it ended twice")
			}
			b.Drop(ids)
			a.Unlend(ids)
		})
	}
}

// Shutdown with a client that never reads what waits for it: it holds Shutdown up until time is up, and is reset.
func TestShutdownWithStuckClient(t *testing.T) {
	s, r := start(t, conn.Config{MaxOutput: 64 << 20})
	addr := listen(t, s, "ping")
	stuck := dial(t, addr)
	waitLen(t, s, 1)
	s.Get(s.IDs()[0]).Write(make([]byte, 32<<20)) // more than the socket takes
	quick := dial(t, addr)
	waitLen(t, s, 2)
	done := make(chan error)
	ctx, cancel := newContext()
	go func() { done <- s.Shutdown(ctx) }()
	expectEOF(t, quick)
	quick.Close()
	r.waitClosed(t, 1)
	select {
	case err := <-done:
		t.Fatalf("Shutdown returned %v, with a session left", err)
	default:
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("Shutdown reports success")
	}
	r.waitClosed(t, 2)
	if _, err := io.Copy(io.Discard, stuck); err == nil {
		t.Error("a client that was cut off took it for the end")
	}
}

// A session whose client has sent its FIN, and whose last output is never taken, did not end in peace, and does not say so.
func TestReasonOfCutOutput(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout time.Duration // 0 = none
		end     func(*conn.Server, *net.TCPConn)
		want    error
	}{
		{"the server stops", 0, func(s *conn.Server, _ *net.TCPConn) { s.Shutdown(expired()) }, conn.ErrStopped},
		{"the write timeout strikes", 200 * time.Millisecond, func(*conn.Server, *net.TCPConn) {}, conn.ErrWriteTimeout},
		{"the client resets", 0, func(_ *conn.Server, c *net.TCPConn) { c.SetLinger(0); c.Close() }, unix.EPIPE}, // after its FIN, the kernel says so
	} {
		t.Run(c.name, func(t *testing.T) {
			s, r := start(t, conn.Config{MaxOutput: 64 << 20, WriteTimeout: c.timeout})
			client := dial(t, listen(t, s, "ping"))
			waitLen(t, s, 1)
			session := s.Get(s.IDs()[0])
			session.Write(make([]byte, 32<<20)) // more than the socket takes
			session.Close(nil)
			client.CloseWrite()
			c.end(s, client)
			for _, err := range r.waitClosed(t, 1) {
				if !errors.Is(err, c.want) {
					t.Errorf("it ended with %v, want %v", err, c.want)
				}
			}
		})
	}
}

// What others write, and when they close, while a session is moved there and back, thawed and moved again: the client gets all that was
// accepted, once and in order, and the end after it.
func TestWriteAndCloseUnderMoves(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	addr := listen(t, a, "ping")
	for round := range 20 {
		c := dial(t, addr)
		waitLen(t, a, 1)
		id := a.IDs()[0]
		accepted := make(chan []byte)
		go func() { accepted <- pushAndClose(t, id, a, b) }()
		var want []byte
		for from, to := a, b; want == nil; {
			ids := lend(t, from, to)
			states, _, _ := from.Freeze(ids, nil)
			if len(states) == 1 && round%3 > 0 && to.Take(&states[0]) == nil {
				give(t, from, to, ids)
				from.Release(ids...)
				from, to = to, from
			} else {
				from.Thaw(ids)
				to.Drop(ids)
				from.Unlend(ids)
			}
			select {
			case want = <-accepted:
			default:
			}
		}
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: got %d bytes, %v; %d were accepted", round, len(got), err, len(want))
		}
		c.Close()
		waitLen(t, a, 0)
		waitLen(t, b, 0)
	}
}

// pushAndClose writes to a session wherever it is, closes it, and returns what was accepted.
func pushAndClose(t *testing.T, id conn.ID, servers ...*conn.Server) (accepted []byte) {
	for closed := false; !closed; {
		for _, s := range servers {
			session := s.Get(id)
			if session == nil {
				continue // it is at the other, or between Give and Own
			}
			if len(accepted) == 500 {
				session.Close(nil)
				_, err := session.Write(nil)
				closed = closed || err == conn.ErrClosed
				continue
			}
			next := byte(len(accepted))
			if _, err := session.Write([]byte{next}); err == nil {
				accepted = append(accepted, next)
			} else if err != conn.ErrMoved {
				t.Errorf("Write: %v", err)
			}
		}
	}
	return accepted
}
