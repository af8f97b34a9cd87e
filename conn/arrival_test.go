package conn_test

import (
	"io"
	"net"
	"testing"
	"time"

	"baton/conn"
)

// What a client sends, or that it hangs up, is noticed whenever it comes in a move: epoll tells the receiver once, at a time when it must not
// look yet. Sessions at rest get no turn when they are owned, so what is missed here would be missed for ever.
func TestInputAtEveryMomentOfAMove(t *testing.T) {
	moments := []string{"before Lend", "before Freeze", "before Take", "before Give", "before Own", "after Own"}
	acts := map[string]func(*testing.T, *net.TCPConn){
		"ping": func(t *testing.T, c *net.TCPConn) { send(t, c, "ping"); expect(t, c, "pong") },
		"half a ping, and the rest later": func(t *testing.T, c *net.TCPConn) {
			send(t, c, "pi")
			time.AfterFunc(20*time.Millisecond, func() { c.Write([]byte("ng")) })
			expect(t, c, "pong")
		},
		"FIN": func(t *testing.T, c *net.TCPConn) {
			c.CloseWrite()
			if n, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read %d, %v; want the end of the stream", n, err)
			}
		},
	}
	for _, moment := range moments {
		for name, act := range acts {
			t.Run(name+" "+moment, func(t *testing.T) {
				a, _ := start(t, conn.Config{Run: 1})
				b, _ := start(t, conn.Config{Run: 2})
				c := dial(t, listen(t, a, "ping"))
				send(t, c, "ping")
				expect(t, c, "pong")
				acted := make(chan struct{})
				at := func(m string) {
					if m == moment {
						go func() { defer close(acted); act(t, c) }()
						time.Sleep(30 * time.Millisecond) // that it is there, and that all loops have seen it
					}
				}
				at("before Lend")
				ids := lend(t, a, b)
				at("before Freeze")
				states := freeze(t, a, ids, nil)
				if ended := name == "FIN" && (moment == "before Lend" || moment == "before Freeze"); len(states) != 1 && !ended {
					t.Fatalf("%d sessions are moved, want 1", len(states))
				}
				at("before Take")
				for i := range states {
					if err := b.Take(&states[i]); err != nil {
						t.Fatal(err)
					}
				}
				at("before Give")
				if len(states) > 0 {
					lates := a.Give(ids)
					at("before Own")
					b.Own(ids, lates, func(int64) {})
				}
				at("after Own")
				a.Release(ids...)
				select {
				case <-acted:
				case <-time.After(5 * time.Second):
					t.Fatal("it is not noticed")
				}
			})
		}
	}
}

// What comes in a move may have been served, and may have a handler running for it that blocks, before the loop begins with the session.
func TestBlockingHandlerRunsBeforeTheLoopBegins(t *testing.T) {
	p, runs, release, done := heldProtocol()
	p.Blocking = true
	a, _ := start(t, conn.Config{Run: 1}, p)
	b, _ := start(t, conn.Config{Run: 2}, p)
	addr := listen(t, a, "held")
	for range 50 {
		c := dial(t, addr)
		waitLen(t, a, 1)
		ids := lend(t, a, b)
		offer(t, a, b, ids)
		sent := make(chan struct{})
		go func() { defer close(sent); c.Write([]byte("x")) }()
		resumed := make(chan int64, 1)
		b.Own(ids, a.Give(ids), func(at int64) { resumed <- at })
		a.Release(ids...)
		<-runs
		<-sent
		<-resumed
		release()
		<-done
		c.Close()
		waitLen(t, b, 0)
	}
}
