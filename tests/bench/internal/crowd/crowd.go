// Package crowd is the clients of a measurement. It differs from internal/load in its price: one event loop holds them all, so that on a
// machine of few cores the server is measured and not its clients. It differs in its verdict as well: a byte that is wrong, or a
// connection that ends, fails the measurement, and no more is told about it.
//
// A crowd is at rest, or it is paced: each connection pings once an interval, all of them evenly spread. Or it is closed: each pings again
// as soon as it has its answer.
//
// Latency is that of internal/load: from the moment a ping was due by the schedule, if the answer to the one before was still missing
// then, or else from when it was sent. By how much this process sends late through its own fault is told apart, as OwnDelay.
package crowd

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"baton/internal/mono"
	"baton/tests/bench/internal/figure"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// A Crowd is its connections and the goroutine that owns them. Its methods may be called by one goroutine at a time.
type Crowd struct {
	epfd, wakefd int
	clients      []client

	mu   sync.Mutex
	todo []func() // for the loop

	// These are the loop's.
	closed   bool          // pings follow answers
	interval time.Duration // 0 = not paced
	began    int64         // of pacing; monotonic ns
	next     int64         // number of the next ping since then
	owed     int           // answers that are missing
	rested   chan struct{} // closed when none is; nil = nobody waits
	failed   error         // the first failure
	quit     bool

	frames            int64
	latency, ownDelay *hdrhistogram.Histogram
	samples           []Sample
	ended             chan struct{}
}

// A client is one connection.
type client struct {
	fd     int32
	owed   bool
	missed int32 // pings that were due while an answer was owed
	due    int64 // of the ping that is owed an answer; monotonic ns
	late   int64 // when the first of the missed was due; monotonic ns
}

// A Sample is an answer of a paced crowd.
type Sample struct {
	At      int64 // when it came; monotonic ns
	Latency int64 // ns
}

// Open dials n connections, has one ping answered on each, and leaves them at rest.
func Open(addr string, n int) (_ *Crowd, err error) {
	c := &Crowd{ended: make(chan struct{}), latency: figure.New(), ownDelay: figure.New(), epfd: -1, wakefd: -1}
	defer func() {
		if err != nil {
			c.closeAll()
		}
	}()
	if c.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if c.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	if err = c.watch(c.wakefd, -1); err != nil {
		return nil, err
	}
	to, err := resolve(addr)
	if err != nil {
		return nil, err
	}
	for len(c.clients) < n {
		if err = c.dialSome(to, min(dialsAtOnce, n-len(c.clients))); err != nil {
			return nil, fmt.Errorf("connection %d to %s: %w", len(c.clients)+1, addr, err)
		}
	}
	go c.run()
	return c, nil
}

// dialsAtOnce is well below the length of a listening socket's queue.
const dialsAtOnce = 256

// dialSome opens connections and waits for an answer on each, so that the server has accepted them before more are dialled.
func (c *Crowd) dialSome(to unix.Sockaddr, n int) error {
	first := len(c.clients)
	for range n {
		fd, err := dial(to)
		if err != nil {
			return err
		}
		c.clients = append(c.clients, client{fd: int32(fd)})
		if _, err := unix.Write(fd, ping); err != nil {
			return err
		}
	}
	for i := first; i < len(c.clients); i++ {
		fd := int(c.clients[i].fd)
		if err := expectPong(fd); err != nil {
			return err
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
		if err := c.watch(fd, int32(i)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Crowd) watch(fd int, i int32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: i}
	return unix.EpollCtl(c.epfd, unix.EPOLL_CTL_ADD, fd, &e)
}

// do has the loop do something and waits until it has.
func (c *Crowd) do(f func()) {
	done := make(chan struct{})
	c.mu.Lock()
	c.todo = append(c.todo, func() { f(); close(done) })
	c.mu.Unlock()
	unix.Write(c.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-done
}

// Pace has each connection ping once an interval.
func (c *Crowd) Pace(interval time.Duration) {
	c.do(func() {
		c.forget()
		c.interval, c.began, c.next = interval, mono.Now(), 0
	})
}

// Loop has each connection ping whenever it has its answer.
func (c *Crowd) Loop() {
	c.do(func() {
		c.forget()
		c.closed = true
		now := mono.Now()
		for i := range c.clients {
			c.ping(&c.clients[i], now)
		}
	})
}

// restTime is how long answers may be on their way.
const restTime = 30 * time.Second

// Rest ends the pings, and returns when all answers are here.
func (c *Crowd) Rest() (r Report) {
	rested := make(chan struct{})
	c.do(func() {
		c.closed, c.interval, c.rested = false, 0, rested
		for i := range c.clients {
			c.clients[i].missed = 0
		}
		c.noteRest()
	})
	select {
	case <-rested:
	case <-time.After(restTime):
		c.do(func() { c.fail(fmt.Errorf("%d answers are missing after %v", c.owed, restTime)) })
	}
	return c.Take()
}

// A Report is what was counted since the one before.
type Report struct {
	Frames   int64
	Latency  *hdrhistogram.Histogram // ns
	OwnDelay *hdrhistogram.Histogram // ns, by which this process sent late
	Samples  []Sample                // of a paced crowd
	Err      error                   // the first connection that failed, and how
}

// Take returns the report so far and begins a new one.
func (c *Crowd) Take() (r Report) {
	c.do(func() {
		r = Report{c.frames, c.latency, c.ownDelay, c.samples, c.failed}
		c.forget()
	})
	return r
}

func (c *Crowd) forget() {
	c.frames, c.latency, c.ownDelay, c.samples = 0, figure.New(), figure.New(), make([]Sample, 0, cap(c.samples))
}

// Close closes all connections.
func (c *Crowd) Close() {
	c.do(func() { c.quit = true })
	<-c.ended
	c.closeAll()
}

func (c *Crowd) closeAll() {
	for i := range c.clients {
		if fd := int(c.clients[i].fd); fd >= 0 {
			unix.Close(fd)
		}
	}
	for _, fd := range []int{c.epfd, c.wakefd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// run is the loop. It has a thread of its own, which waits in the kernel as that of a client in any other language would.
func (c *Crowd) run() {
	runtime.LockOSThread()
	defer close(c.ended)
	events := make([]unix.EpollEvent, 512)
	for !c.quit {
		n := c.wait(events)
		for i := range events[:n] {
			if e := &events[i]; e.Fd >= 0 {
				c.readable(&c.clients[e.Fd])
			} else {
				c.work()
			}
		}
		c.sendDue()
	}
}

// grain is the shortest sleep of a paced crowd: shorter ones would cost more than the pings.
const grain = 200 * time.Microsecond

func (c *Crowd) wait(events []unix.EpollEvent) int {
	var timeout *unix.Timespec
	if c.interval > 0 {
		t := unix.NsecToTimespec(max(c.dueAt(c.next)-mono.Now(), int64(grain)))
		timeout = &t
	}
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(c.epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(unsafe.Pointer(timeout)), 0, 0)
	if errno != 0 {
		return 0 // EINTR
	}
	return int(n)
}

func (c *Crowd) work() {
	var b [8]byte
	unix.Read(c.wakefd, b[:])
	c.mu.Lock()
	todo := c.todo
	c.todo = nil
	c.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

// dueAt is when the ping of this number is due.
func (c *Crowd) dueAt(k int64) int64 { return c.began + k*int64(c.interval)/int64(len(c.clients)) }

// sendDue sends what the schedule asks for.
func (c *Crowd) sendDue() {
	if c.interval == 0 {
		return
	}
	now := mono.Now()
	for due := c.dueAt(c.next); due <= now; due = c.dueAt(c.next) {
		p := &c.clients[c.next%int64(len(c.clients))]
		c.next++
		if p.owed {
			if p.missed++; p.missed == 1 {
				p.late = due
			}
			continue
		}
		now = mono.Now()
		figure.Record(c.ownDelay, now-due)
		c.ping(p, now)
	}
}

// ping sends one. Its latency counts from due.
func (c *Crowd) ping(p *client, due int64) {
	if p.fd < 0 {
		return
	}
	p.owed, p.due = true, due
	c.owed++
	if n, err := unix.Write(int(p.fd), ping); n != len(ping) {
		c.lose(p, fmt.Errorf("write: %d bytes, %w", n, err))
	}
}

// readable takes an answer.
func (c *Crowd) readable(p *client) {
	if p.fd < 0 {
		return
	}
	var b [64]byte
	n, err := unix.Read(int(p.fd), b[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		c.lose(p, fmt.Errorf("read: %w", err))
		return
	case n == 0:
		c.lose(p, errors.New("the server closed the connection"))
		return
	case string(b[:n]) != pong || !p.owed:
		c.lose(p, fmt.Errorf("%q came, owed: %v", b[:n], p.owed))
		return
	}
	c.answered(p, mono.Now())
}

func (c *Crowd) answered(p *client, now int64) {
	c.frames++
	c.owed--
	p.owed = false
	figure.Record(c.latency, now-p.due)
	if c.interval > 0 {
		c.samples = append(c.samples, Sample{now, now - p.due})
	}
	switch {
	case c.closed:
		c.ping(p, now)
	case p.missed > 0:
		p.missed--
		due := p.late
		p.late += int64(c.interval)
		c.ping(p, due)
	}
	c.noteRest()
}

func (c *Crowd) noteRest() {
	if c.owed == 0 && c.rested != nil {
		close(c.rested)
		c.rested = nil
	}
}

// lose ends a connection that has failed.
func (c *Crowd) lose(p *client, err error) {
	c.fail(err)
	if p.owed {
		p.owed = false
		c.owed--
	}
	unix.Close(int(p.fd))
	p.fd = -1
	c.noteRest()
}

func (c *Crowd) fail(err error) {
	if c.failed == nil {
		c.failed = err
	}
}
