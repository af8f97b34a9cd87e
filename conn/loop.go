package conn

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"baton/internal/mono"

	"golang.org/x/sys/unix"
)

// A loop waits for its sessions' sockets and gives each one a turn when there is something to do. It is one goroutine; the first group
// of fields is that goroutine's own.
type loop struct {
	queue   []*Conn // sessions with more to do, once everybody else has had a turn
	wheel   wheel
	alarmed bool // epoll's read deadline is set for the wheel's next tick
	events  [256]unix.EpollEvent
	woken   [256]*Conn
	inBuf   []byte // input of the session whose turn it is: joinLimit for what it had, maxRead for what it gets
	outBuf  []byte // its output
	now     int64  // monotonic ns; at least once per turn
	slowAt  int64  // when a slow handler was last reported

	srv  *Server
	done chan struct{} // closed when the goroutine has ended
	beat atomic.Int64  // monotonic ns of the last round

	epoll *os.File // non-blocking, so that the goroutine parks in the runtime and not a thread in epoll_wait
	raw   syscall.RawConn
	epfd  int
	wake  int // eventfd

	mu     sync.Mutex // guards what follows; taken after Conn.mu
	posted []*Conn    // sessions that need a turn though no event says so
	calls  []func()   // what the loop's goroutine is to do
	awake  bool       // the loop will look at posted and calls of its own accord
	stop   bool
	slots  []slot
	free   []uint32
}

// A slot holds a session that is registered with epoll. The generation tells its events from those of the slot's earlier tenants.
type slot struct {
	conn *Conn
	gen  uint32
}

const (
	maxRead   = 64 << 10 // bytes a turn; then the session goes to the back of the queue
	joinLimit = 64 << 10 // leftover input up to this size is joined with what is read in the loop's buffer, a larger one in its own
	slowTurn  = int64(10 * time.Millisecond)

	// Input and output are both watched from the start, edge-triggered, so that nothing has to be changed in epoll as they come and go.
	sessionEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
)

func newLoop(s *Server) (_ *loop, err error) {
	l := &loop{
		srv: s, done: make(chan struct{}), now: mono.Now(),
		inBuf: make([]byte, joinLimit+maxRead), outBuf: make([]byte, 0, maxRead),
	}
	l.wheel.tick = l.now / wheelTick
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	unix.SetNonblock(l.epfd, true) // makes os.NewFile hand it to the runtime's poller: an epoll descriptor is itself pollable
	l.epoll = os.NewFile(uintptr(l.epfd), "epoll")
	defer func() {
		if err != nil {
			l.epoll.Close()
		}
	}()
	if l.raw, err = l.epoll.SyscallConn(); err != nil {
		return nil, err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err = l.watch(l.wake, ref{}, unix.EPOLLIN); err != nil {
		unix.Close(l.wake)
		return nil, err
	}
	return l, nil
}

func (l *loop) run() {
	defer close(l.done)
	for !l.round() {
	}
	l.epoll.Close()
	unix.Close(l.wake)
}

// round waits, and does once all that there is to do. It reports whether it was the last one.
func (l *loop) round() (last bool) {
	n := l.wait()
	l.now = mono.Now()
	l.beat.Store(l.now)
	posted, calls, last := l.collect(n)
	for i, c := range l.woken[:n] {
		if c != nil {
			l.turn(c, l.events[i].Events)
			l.woken[i] = nil
		}
	}
	for _, c := range posted {
		l.turn(c, 0)
	}
	for _, call := range calls {
		call()
	}
	for queue := l.takeQueue(); len(queue) > 0; queue = queue[1:] {
		l.turn(queue[0], 0)
	}
	l.wheel.due(l.now, l.timeout)
	return last
}

func (l *loop) takeQueue() []*Conn {
	queue := l.queue
	l.queue = nil
	return queue
}

// wait returns the number of events in l.events. It parks the goroutine until there is something to do.
func (l *loop) wait() (n int) {
	park := len(l.queue) == 0 && l.mayPark()
	if park && !l.alarmed && l.wheel.count > 0 {
		l.epoll.SetReadDeadline(time.Now().Add(time.Duration(wheelTick)))
		l.alarmed = true
	}
	err := l.raw.Read(func(fd uintptr) bool {
		n, _ = unix.EpollWait(int(fd), l.events[:], 0) // the only error of a descriptor of our own is EINTR
		return n > 0 || !park
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.epoll.SetReadDeadline(time.Time{})
		l.alarmed = false
	} else if err != nil {
		panic("conn: waiting on our own epoll descriptor: " + err.Error())
	}
	return max(n, 0)
}

// mayPark promises that whoever posts from now on will wake the loop, unless something is posted already.
func (l *loop) mayPark() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awake = len(l.posted) > 0 || len(l.calls) > 0 || l.stop
	return !l.awake
}

// collect finds the session of each of the n events, and takes what was posted.
func (l *loop) collect(n int) (posted []*Conn, calls []func(), last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awake = true
	for i := range l.events[:n] {
		e := &l.events[i]
		switch r := (ref{uint32(e.Fd), uint32(e.Pad)}); {
		case r == ref{}:
			var b [8]byte
			unix.Read(l.wake, b[:])
		case r.gen == 0:
			l.calls = append(l.calls, func() { l.srv.accept(int(r.slot) - 1) })
		case l.slots[r.slot].gen == r.gen:
			l.woken[i] = l.slots[r.slot].conn
		}
	}
	posted, calls = l.posted, l.calls
	l.posted, l.calls = nil, nil
	return posted, calls, l.stop
}

// post has the loop give c a turn. It may be called from any goroutine, with Conn.mu and output.mu held.
func (l *loop) post(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posted = append(l.posted, c)
	l.wakeLocked()
}

// do runs f on the loop's goroutine and returns when it has. After the loop has ended, f is not run.
func (l *loop) do(f func()) {
	ran := make(chan struct{})
	l.mu.Lock()
	l.calls = append(l.calls, func() { f(); close(ran) })
	l.wakeLocked()
	l.mu.Unlock()
	select {
	case <-ran:
	case <-l.done:
	}
}

func (l *loop) quit() {
	l.mu.Lock()
	l.stop = true
	l.wakeLocked()
	l.mu.Unlock()
	<-l.done
}

func (l *loop) wakeLocked() {
	if !l.awake {
		l.awake = true
		unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// add registers a session with epoll.
func (l *loop) add(c *Conn) error {
	l.mu.Lock()
	if n := len(l.free); n > 0 {
		c.ref.slot = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		c.ref.slot = uint32(len(l.slots))
		l.slots = append(l.slots, slot{})
	}
	s := &l.slots[c.ref.slot]
	if s.gen++; s.gen == 0 { // generation 0 is the listeners'
		s.gen = 1
	}
	s.conn, c.ref.gen = c, s.gen
	l.mu.Unlock()
	if err := l.watch(c.fd, c.ref, sessionEvents); err != nil {
		l.drop(c.ref)
		c.ref = ref{}
		return err
	}
	return nil
}

// remove takes a session out of epoll. It comes before the close of its socket, always: while another process holds the socket, close
// leaves the registration behind, and it can then not be removed any more.
func (l *loop) remove(c *Conn) {
	if c.ref == (ref{}) {
		return
	}
	l.unwatch(c.fd)
	l.drop(c.ref)
	c.ref = ref{}
}

func (l *loop) drop(r ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slots[r.slot].conn = nil
	l.free = append(l.free, r.slot)
}

func (l *loop) find(r ref) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := &l.slots[r.slot]; s.gen == r.gen {
		return s.conn
	}
	return nil
}

func (l *loop) watch(fd int, r ref, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(r.slot), Pad: int32(r.gen)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &e))
}

func (l *loop) unwatch(fd int) { unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, fd, nil) }

// slow reports a handler that keeps the loop from everybody else, at most once a second.
func (l *loop) slow(c *Conn, took int64) {
	if l.now-l.slowAt < int64(time.Second) {
		return
	}
	l.slowAt = l.now
	l.srv.cfg.Log.Warn("a handler kept its loop from everybody else; if it may block, its protocol should say so (Blocking)",
		slog.String("protocol", c.proto.Name), slog.Any("session", c.id), slog.Duration("took", time.Duration(took)))
}
