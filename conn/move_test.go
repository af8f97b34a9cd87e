package conn_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/conn"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// lend does what goes before the freeze: copies of the sockets of all of a's sessions are with b.
func lend(t *testing.T, a, b *conn.Server) []conn.ID {
	t.Helper()
	loans := a.Lend(a.IDs())
	ids := make([]conn.ID, len(loans))
	for i := range loans {
		ids[i] = loans[i].ID
		fd, err := unix.FcntlInt(uintptr(loans[i].FD), unix.F_DUPFD_CLOEXEC, 0) // as SCM_RIGHTS would
		if err != nil {
			t.Fatal(err)
		}
		loans[i].FD = fd
	}
	if err := b.Borrow(loans); err != nil {
		t.Fatal(err)
	}
	return ids
}

// offer freezes sessions of a and has b take them, by way of their encoded states.
func offer(t *testing.T, a, b *conn.Server, ids []conn.ID) {
	t.Helper()
	versions, err := a.Negotiate(b.StateVersions())
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range freeze(t, a, ids, versions) {
		data, err := state.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var s conn.State
		if err := s.Unmarshal(data); err != nil {
			t.Fatal(err)
		}
		if err := b.Take(&s); err != nil {
			t.Fatal(err)
		}
	}
}

// freeze freezes these sessions of a, as soon as none of them is busy. Those that have ended have no state.
func freeze(t *testing.T, a *conn.Server, ids []conn.ID, versions map[string]int) (all []conn.State) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); len(ids) > 0; time.Sleep(100 * time.Microsecond) { // that a busy loop gets on
		states, busy, failed := a.Freeze(ids, versions)
		if len(failed) > 0 || time.Now().After(end) {
			t.Fatalf("failed %v, busy %v", failed, busy)
		}
		all, ids = append(all, states...), busy
	}
	return all
}

func give(t *testing.T, a, b *conn.Server, ids []conn.ID) {
	t.Helper()
	lates := a.Give(ids)
	a.Detach(ids)
	var resumed atomic.Int32
	n := b.Own(ids, lates, func(int64) { resumed.Add(1) })
	for end := time.Now().Add(5 * time.Second); int(resumed.Load()) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d sessions resumed", resumed.Load(), n)
		}
	}
}

// move moves all sessions of a to b.
func move(t *testing.T, a, b *conn.Server) {
	t.Helper()
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	a.Release(ids...)
}

// A frame cut at every byte, and the session moved there and back at every cut.
func TestMoveAtEveryByte(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
	c := dial(t, listen(t, a, "lines"))
	waitLen(t, a, 1)
	from, to := a, b
	for i, r := range "one\ntwo\nthree\n\nfive\n" {
		send(t, c, string(r))
		if i%3 > 0 {
			time.Sleep(5 * time.Millisecond) // sometimes it has been read, sometimes not
		}
		move(t, from, to)
		from, to = to, from
	}
	expect(t, c, "1 one\n2 two\n3 three\n4 \n5 five\n")
	id := from.IDs()[0]
	if id.Run() != 1 {
		t.Errorf("session is called %v now", id)
	}
}

func TestMoveWithUnsentOutput(t *testing.T) {
	a, ra := start(t, conn.Config{Run: 1, HighWater: 1 << 20})
	b, rb := start(t, conn.Config{Run: 2, HighWater: 1 << 20})
	c := dial(t, listen(t, a, "ping"))
	const size = 16 << 20
	go func() {
		io.Copy(c, &repeat{"ping", size})
		c.CloseWrite()
	}()
	time.Sleep(200 * time.Millisecond)
	move(t, a, b)
	time.Sleep(50 * time.Millisecond)
	move(t, b, a)
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, &checker{t, c})
		got <- n
	}()
	for range 20 {
		time.Sleep(time.Millisecond)
		if a.Len() > 0 {
			move(t, a, b)
		} else if b.Len() > 0 {
			move(t, b, a)
		}
	}
	if n := <-got; n != size {
		t.Errorf("got %d bytes, want %d", n, size)
	}
	for end := time.Now().Add(5 * time.Second); a.Len()+b.Len() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("session does not end")
		}
	}
	ra.mu.Lock()
	rb.mu.Lock()
	defer ra.mu.Unlock()
	defer rb.mu.Unlock()
	if len(ra.closed)+len(rb.closed) != 1 {
		t.Errorf("ended %d + %d times", len(ra.closed), len(rb.closed))
	}
}

func TestWriteWhileFrozen(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	c := dial(t, listen(t, a, "ping"))
	waitLen(t, a, 1)
	push := a.Get(a.IDs()[0])
	ids := lend(t, a, b)
	push.Write([]byte("1"))
	offer(t, a, b, ids)
	for _, s := range []string{"2", "3"} {
		if n, err := push.Write([]byte(s)); n != 1 || err != nil {
			t.Fatalf("Write while frozen: %d, %v", n, err)
		}
	}
	give(t, a, b, ids)
	if n, err := push.Write([]byte("lost")); n != 0 || err != conn.ErrMoved {
		t.Errorf("Write after Give: %d, %v; want 0, ErrMoved", n, err)
	}
	b.Get(ids[0]).Write([]byte("4"))
	send(t, c, "ping")
	expect(t, c, "1234pong")
	a.Release(ids...)
}

func TestThaw(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	c := dial(t, listen(t, a, "ping"))
	waitLen(t, a, 1)
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	a.Get(ids[0]).Write([]byte("late"))
	send(t, c, "ping")
	time.Sleep(20 * time.Millisecond)
	a.Thaw(ids)
	expect(t, c, "latepong")
	b.Drop(ids)
	a.Unlend(ids)
	c.CloseWrite()
	expectEOF(t, c)
}

// The client ends, or is ended, while two processes hold its socket: it knows at once.
func TestEndsWhileLent(t *testing.T) {
	for _, who := range []string{"server", "client", "reset"} {
		t.Run(who, func(t *testing.T) {
			a, ra := start(t, conn.Config{Run: 1})
			b, _ := start(t, conn.Config{Run: 2})
			c := dial(t, listen(t, a, "ping"))
			waitLen(t, a, 1)
			ids := lend(t, a, b)
			switch who {
			case "server":
				send(t, c, "pang")
			case "client":
				c.CloseWrite()
			case "reset":
				c.SetLinger(0)
				c.Close()
			}
			if who != "reset" {
				c.SetDeadline(time.Now().Add(500 * time.Millisecond))
				expectEOF(t, c)
				c.Close()
			}
			ra.waitClosed(t, 1)
			if loans := a.Lend(ids); len(loans) != 0 {
				t.Error("an ended session was lent")
			}
			if states, busy, failed := a.Freeze(ids, nil); len(states)+len(busy)+len(failed) > 0 {
				t.Error("an ended session was frozen")
			}
			b.Drop(ids)
			a.Unlend(ids)
		})
	}
}

// While both hold the socket, the giver's copy wakes nobody and its registration is gone.
func TestCloseWhileGiverHoldsACopy(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	c := dial(t, listen(t, a, "ping"))
	waitLen(t, a, 1)
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	send(t, c, "pang")
	c.SetDeadline(time.Now().Add(2 * time.Second))
	expectEOF(t, c)
	a.Release(ids...)
}

func TestBorrowChecksCookies(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	addr := listen(t, a, "ping")
	dial(t, addr)
	dial(t, addr)
	waitLen(t, a, 2)
	loans := a.Lend(a.IDs())
	before := countFDs(t)
	for i := range loans {
		loans[i].FD, _ = unix.FcntlInt(uintptr(loans[i].FD), unix.F_DUPFD_CLOEXEC, 0)
	}
	loans[0].Cookie, loans[1].Cookie = loans[1].Cookie, loans[0].Cookie
	if err := b.Borrow(loans); !errors.Is(err, conn.ErrCookie) {
		t.Errorf("Borrow: %v, want ErrCookie", err)
	}
	if now := countFDs(t); now != before {
		t.Errorf("%d descriptors open, %d before", now, before)
	}
}

func TestTakeRefuses(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
	dial(t, listen(t, a, "lines"))
	waitLen(t, a, 1)
	ids := lend(t, a, b)
	states, _, _ := a.Freeze(ids, map[string]int{"lines": 1})
	good := states[0]
	for name, spoil := range map[string]func(*conn.State){
		"unknown id":       func(s *conn.State) { s.ID++ },
		"unknown protocol": func(s *conn.State) { s.Protocol = "x" },
		"saved too short":  func(s *conn.State) { s.Saved = nil },
		"too much input":   func(s *conn.State) { s.In = make([]byte, 1<<20); s.Read = 1 << 20 },
	} {
		bad := good
		spoil(&bad)
		if err := b.Take(&bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if n := b.Own(ids, nil, func(int64) {}); n != 0 {
		t.Error("a session that was never taken is owned")
	}
	if err := b.Take(&good); err != nil {
		t.Error(err)
	}
	a.Thaw(ids)
	b.Drop(ids)
	a.Unlend(ids)
}

// A blocking handler is busy while it runs, and its session moves afterwards.
func TestBlockingHandlerIsBusy(t *testing.T) {
	release := make(chan struct{})
	slow := func() conn.Protocol {
		return conn.Protocol{Name: "slow", Blocking: true, New: func() conn.Handler {
			return handlerFunc(func(c *conn.Conn) error {
				b, err := c.Peek(1)
				if err != nil {
					return err
				}
				if b[0] == 'w' {
					<-release
				}
				c.Discard(1)
				_, err = c.Write([]byte("done"))
				return err
			})
		}}
	}
	a, _ := start(t, conn.Config{Run: 1, ReadTimeout: 200 * time.Millisecond}, slow())
	b, _ := start(t, conn.Config{Run: 2}, slow())
	c := dial(t, listen(t, a, "slow"))
	other := dial(t, listen(t, a, "ping"))
	send(t, c, "w")
	time.Sleep(30 * time.Millisecond)
	send(t, c, "x")
	send(t, other, "ping")
	expect(t, other, "pong") // the loop goes round
	other.Close()
	waitLen(t, a, 1)
	time.Sleep(400 * time.Millisecond) // longer than the read timeout, which does not run meanwhile
	ids := lend(t, a, b)
	if states, busy, _ := a.Freeze(ids, nil); len(states) != 0 || len(busy) != 1 {
		t.Fatalf("Freeze: %d states, %d busy", len(states), len(busy))
	}
	close(release)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	expect(t, c, "donedone")
	a.Release(ids...)
}

func TestNegotiate(t *testing.T) {
	v := func(reads, writes []int) conn.Protocol {
		return conn.Protocol{Name: "v", New: func() conn.Handler { return &lines{} }, Reads: reads, Writes: writes}
	}
	for i, tt := range []struct {
		writes, reads []int
		want          int // 0 = refused
	}{
		{[]int{2, 1}, []int{1, 2}, 2},
		{[]int{2, 1}, []int{1}, 1},
		{[]int{2}, []int{1}, 0},
		{nil, nil, 1},
	} {
		a, _ := start(t, conn.Config{Run: 1}, v(nil, tt.writes))
		b, _ := start(t, conn.Config{Run: 2}, v(tt.reads, nil))
		got, err := a.Negotiate(b.StateVersions())
		if (err == nil) != (tt.want > 0) || got["v"] != tt.want {
			t.Errorf("%d: %v, %v; want %d", i, got, err, tt.want)
		}
	}
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2})
	if _, err := a.Negotiate(b.StateVersions()); err != nil {
		t.Errorf("a protocol that nobody speaks stops the move: %v", err)
	}
	listen(t, a, "lines")
	if _, err := a.Negotiate(b.StateVersions()); err == nil {
		t.Error("a protocol that is listened for is not known there, and nobody minds")
	}
}

// Many sessions under traffic go to and fro; no byte is lost, doubled or changed.
func TestMoveUnderTraffic(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1, Loops: 2})
	b, _ := start(t, conn.Config{Run: 2, Loops: 2})
	addr := listen(t, a, "ping")
	const clients = 50
	stop := make(chan struct{})
	errs := make(chan error, clients)
	for range clients {
		c := dial(t, addr)
		go func() { errs <- pingUntil(c, stop) }()
	}
	waitLen(t, a, clients)
	from, to := a, b
	for range 30 {
		move(t, from, to)
		from, to = to, from
		time.Sleep(2 * time.Millisecond)
	}
	close(stop)
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func pingUntil(c net.Conn, stop <-chan struct{}) error {
	buf := make([]byte, 4)
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		io.WriteString(c, "pi")
		if n%7 == 0 {
			time.Sleep(time.Millisecond)
		}
		io.WriteString(c, "ng")
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "pong" {
			return fmt.Errorf("frame %d: %q, %w", n, buf, err)
		}
	}
}

// Accepted sockets have the options that make the kernel's counts exact, and those that users expect, without a call for each; a move
// leaves them alone.
func TestSocketOptions(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	dial(t, listen(t, a, "ping"))
	waitLen(t, a, 1)
	check := func(s *conn.Server) {
		for _, loan := range s.Lend(s.IDs()) {
			for name, opt := range map[string][3]int{
				"SO_OOBINLINE": {unix.SOL_SOCKET, unix.SO_OOBINLINE, 1}, "TCP_NODELAY": {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
				"SO_KEEPALIVE": {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, "TCP_KEEPIDLE": {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
				"SO_PROTOCOL": {unix.SOL_SOCKET, unix.SO_PROTOCOL, unix.IPPROTO_TCP},
			} {
				if v, err := unix.GetsockoptInt(loan.FD, opt[0], opt[1]); err != nil || v != opt[2] {
					t.Errorf("%s is %d, %v; want %d", name, v, err, opt[2])
				}
			}
			if fl, err := unix.FcntlInt(uintptr(loan.FD), unix.F_GETFL, 0); err != nil || fl&unix.O_NONBLOCK == 0 {
				t.Errorf("flags %#x, %v: not O_NONBLOCK", fl, err)
			}
			s.Unlend([]conn.ID{loan.ID})
		}
	}
	check(a)
	move(t, a, b)
	check(b)
}

// A session that was given ends at once for its client, though the giver still has a copy of the socket.
func TestEndsAtOnceWhileGiverHoldsACopy(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	c := dial(t, listen(t, a, "ping"))
	waitLen(t, a, 1)
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	send(t, c, "ping")
	c.CloseWrite()
	c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	expect(t, c, "pong")
	expectEOF(t, c)
	a.Release(ids...)
}

// Leave ends nothing that another process can go on with.
func TestLeave(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	c := dial(t, listen(t, a, "ping"))
	waitLen(t, a, 1)
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	give(t, a, b, ids)
	if err := b.Leave(); err != nil {
		t.Error(err)
	}
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	var ne net.Error
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("Read: %d, %v; want a timeout: the connection goes on", n, err)
	}
	a.Release(ids...)
}

// Whatever the client sends in whatever pieces, wherever the session is when they come, and whatever is tried and taken back meanwhile: the
// answers are those of a session that never moved.
func TestMoveProperty(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1}, linesProtocol())
	b, _ := start(t, conn.Config{Run: 2}, linesProtocol())
	addr := listen(t, a, "lines")
	rapid.Check(t, func(rt *rapid.T) {
		waitLen(t, a, 0)
		c := dial(t, addr)
		waitLen(t, a, 1)
		from, to := a, b
		var sent, want bytes.Buffer
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0, 1:
				piece := rapid.StringMatching(`[a-z\n]{1,20}`).Draw(rt, "piece")
				sent.WriteString(piece)
				send(t, c, piece)
			case 2:
				move(t, from, to)
				from, to = to, from
			case 3: // an offer that comes to nothing
				ids := lend(t, from, to)
				offer(t, from, to, ids)
				from.Thaw(ids)
				to.Drop(ids)
				from.Unlend(ids)
			case 4:
				time.Sleep(time.Millisecond)
			}
		}
		for n, line := range bytes.SplitAfter(sent.Bytes(), []byte("\n")) {
			if bytes.HasSuffix(line, []byte("\n")) {
				fmt.Fprintf(&want, "%d %s", n+1, line)
			}
		}
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			rt.Fatalf("sent %q: got %q, %v; want %q", sent.Bytes(), got, err, want.Bytes())
		}
		c.Close()
		waitLen(t, b, 0)
	})
}

// A session that was owned just now can be moved on at once, and be thawed, though its loop has no time for it. One that sends something in the
// meantime gets its turn.
func TestMoveOnBeforeTheFirstTurn(t *testing.T) {
	p, runs, release, _ := heldProtocol()
	p.Blocking = false // it keeps the loop
	a, _ := start(t, conn.Config{Run: 1}, p)
	b, _ := start(t, conn.Config{Run: 2}, p)
	stops := dial(t, listen(t, b, "held"))
	c := dial(t, listen(t, a, "ping"))
	waitLen(t, a, 1)
	send(t, stops, "x")
	<-runs
	ids := lend(t, a, b)
	offer(t, a, b, ids)
	resumed := make(chan int64, 1)
	if n := b.Own(ids, a.Give(ids), func(at int64) { resumed <- at }); n != 1 {
		t.Fatalf("%d sessions are owned", n)
	}
	if loans := b.Lend(ids); len(loans) != 1 {
		t.Error("it is not lent")
	}
	if states, busy, failed := b.Freeze(ids, nil); len(states) != 1 {
		t.Errorf("%d states, busy %v, failed %v; want its state", len(states), busy, failed)
	}
	send(t, c, "ping")
	b.Thaw(ids)
	release()
	<-resumed
	expect(t, c, "pong")
	a.Release(ids...)
	b.Unlend(ids)
}

// Drop and Own, Release and Reset, at the same time: one of them has the session, or the descriptor, and the other finds nothing.
func TestOwnRacesDrop(t *testing.T) {
	a, _ := start(t, conn.Config{Run: 1})
	b, _ := start(t, conn.Config{Run: 2})
	addr := listen(t, a, "ping")
	for range 100 {
		c := dial(t, addr)
		waitLen(t, a, 1)
		ids := lend(t, a, b)
		offer(t, a, b, ids)
		lates := a.Give(ids)
		var both sync.WaitGroup
		both.Go(func() { b.Drop(ids) })
		both.Go(func() { b.Own(ids, lates, func(int64) {}) })
		both.Wait()
		if b.Len() == 1 { // it is served
			send(t, c, "ping")
			expect(t, c, "pong")
		}
		both.Go(func() { a.Release(ids...) })
		both.Go(func() { a.Reset(ids) })
		both.Go(func() { a.Detach(ids) })
		both.Wait()
		c.Close()
		waitLen(t, b, 0)
	}
}
