package conn

import (
	"errors"
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
	found   int        // of events, in this round
	woken   [256]*Conn // the sessions of events; nil = it is of none, or of one that is gone
	inBuf   []byte     // input of the session whose turn it is: joinLimit for what it had, maxRead for what it gets
	outBuf  []byte     // its output; capacity maxRead
	now     int64      // monotonic ns, as of the end of the last turn
	slowAt  int64      // when a slow handler was last reported; monotonic ns

	srv    *Server
	done   chan struct{} // closed when the goroutine has ended
	rounds atomic.Uint64 // so far; a loop that keeps going round with nothing to do is a bug that shows nowhere else

	epoll *os.File        // non-blocking, so that the goroutine parks in the runtime and not a thread in epoll_wait
	raw   syscall.RawConn // of epoll
	epfd  int             // of epoll
	wake  int             // eventfd
	look  func(uintptr) bool
	park  bool // look is to go on until there is an event

	mu     sync.Mutex // guards what follows; taken last
	posted []*Conn    // sessions that need a turn though no event says so
	calls  []func()   // what the loop's goroutine is to do
	awake  bool       // the loop will look at posted and calls of its own accord, or has ended: wake is not to be touched
	stop   bool       // this round is the last, after which the descriptors are closed
	slots  []slot     // sessions by ref.slot
	free   []uint32   // slots without a session
}

func newLoop(s *Server) (_ *loop, err error) {
	l := &loop{
		srv: s, done: make(chan struct{}), now: mono.Now(),
		inBuf: make([]byte, joinLimit+maxRead), outBuf: make([]byte, 0, maxRead),
	}
	l.wheel.tick = l.now / wheelTick
	l.look = func(epfd uintptr) bool { // made once, since it would be an allocation in every round
		n, _ := unix.EpollWait(int(epfd), l.events[:], 0) // of a descriptor of our own, and without waiting: no error
		l.found = max(n, 0)
		return n > 0 || !l.park
	}
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
	if err = l.watch(unix.EPOLL_CTL_ADD, l.wake, ref{}, unix.EPOLLIN); err != nil {
		unix.Close(l.wake)
		return nil, err
	}
	return l, nil
}

// run is the loop's goroutine.
func (l *loop) run() {
	defer close(l.done)
	for !l.round() {
	}
	l.epoll.Close()
	unix.Close(l.wake)
}

// round waits, and does once all that there is to do. It reports whether it was the last one.
func (l *loop) round() (last bool) {
	l.wait()
	l.now = mono.Now()
	l.rounds.Add(1)
	posted, calls, last := l.collect()
	for i, c := range l.woken[:l.found] {
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

// wait collects events. It parks the goroutine until there is something to do.
func (l *loop) wait() {
	l.park = len(l.queue) == 0 && l.mayPark()
	if l.park && !l.alarmed && l.wheel.count > 0 {
		l.epoll.SetReadDeadline(time.Now().Add(time.Duration(wheelTick)))
		l.alarmed = true
	}
	err := l.raw.Read(l.look)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.epoll.SetReadDeadline(time.Time{})
		l.alarmed = false
		l.look(uintptr(l.epfd)) // Read does not look when time is up, and what has come by then goes before
	} else if err != nil {
		panic("conn: waiting on our own epoll descriptor: " + err.Error())
	}
}

// mayPark reports whether nothing is posted, and if so has whoever posts from now on wake the loop.
func (l *loop) mayPark() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awake = len(l.posted) > 0 || len(l.calls) > 0 || l.stop
	return !l.awake
}

// collect finds the session of each event, and takes what was posted.
func (l *loop) collect() (posted []*Conn, calls []func(), last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awake = true
	for i := range l.events[:l.found] {
		e := &l.events[i]
		switch r := (ref{uint32(e.Fd), uint32(e.Pad)}); {
		case r == ref{}:
			var b [8]byte
			unix.Read(l.wake, b[:]) // empties it, so that it wakes again
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

// do runs f on the loop's goroutine and returns when it has. If the loop has ended, f is not run, and do reports false.
func (l *loop) do(f func()) bool {
	ran := make(chan struct{})
	l.call(func() { f(); close(ran) })
	select {
	case <-ran:
		return true
	case <-l.done:
		return false
	}
}

// call has f run on the loop's goroutine, and does not wait for it.
func (l *loop) call(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, f)
	l.wakeLocked()
}

// quit ends the loop after one more round, and returns when it has ended.
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
