package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A client is one of the crowd: it has one connection at a time. Its goroutine owns everything but conn.
type client struct {
	l     *Load
	g     *Group
	id    int
	meter *shard

	mu   sync.Mutex
	conn *net.TCPConn // guarded by mu; nil when there is none
}

// live dials and talks until the load stops, or until the connection fails and the client is not one that dials again.
func (c *client) live(ctx context.Context) {
	c.firstLife(ctx)
	for c.g.Churn && c.l.pause(upTo(c.g.Interval)) {
		_ = c.life(ctx, nil) // it is in the ledger
	}
}

// firstLife is a life that waits for its turn to dial, and tells Start of its first answer or of its failure.
func (c *client) firstLife(ctx context.Context) {
	select {
	case c.l.dialling <- struct{}{}:
	case <-c.l.stopping:
		return
	}
	var once sync.Once
	tell := func(err error) {
		once.Do(func() {
			<-c.l.dialling
			c.l.started <- err
		})
	}
	tell(c.life(ctx, func() { tell(nil) }))
}

// life is one connection from dial to end. If greeted is not nil, it is called once the first ping has been answered. A failure is
// entered in the ledger and returned.
func (c *client) life(ctx context.Context, greeted func()) error {
	dialAt := c.l.now()
	conn, err := c.dial(ctx)
	if err != nil {
		return c.enter(Failure{Remote: c.l.addr}, err)
	}
	c.l.dialled.Add(1)
	c.l.open.Add(1)
	openAt := c.l.now()
	s := &stream{l: c.l, c: conn, meter: c.meter, timed: !c.g.Slow, heard: openAt}
	err = c.talk(s, dialAt, greeted)
	c.set(nil)
	c.l.open.Add(-1)
	_ = conn.Close()
	if err != nil {
		return c.enter(Failure{
			Local:  conn.LocalAddr().String(),
			Remote: conn.RemoteAddr().String(),
			Open:   c.l.now() - openAt,
			Frames: s.got / int64(len(pong)),
		}, err)
	}
	return nil
}

// talk behaves as the group does, then ends the connection; the caller closes it.
func (c *client) talk(s *stream, dialAt time.Duration, greeted func()) error {
	// The first ping is due when the dial begins, so that it is felt if nobody accepts.
	next := dialAt
	if greeted != nil {
		if err := s.send(len(ping), next); err != nil {
			return err
		}
		if err := s.await(s.small[:]); err != nil {
			return err
		}
		greeted()
		next = c.l.firstDue(c.id, c.g.Interval)
	}
	behave := s.pingAlong
	if c.g.Slow {
		behave = s.pileUp
	}
	if err := behave(c.g, next); err != nil {
		return err
	}
	if c.g.Churn && !c.l.isStopping() {
		return s.leave()
	}
	return s.finish()
}

// finish is the clean end: what is owed first, then our end, then theirs.
func (s *stream) finish() error {
	if err := s.complete(); err != nil {
		return err
	}
	if err := s.await(s.small[:]); err != nil {
		return err
	}
	return s.endAndDrain()
}

// leave is how a churning client goes: ending its side and then reading the rest, or with nothing owed, or rudely.
func (s *stream) leave() error {
	how := rand.IntN(10)
	if how >= 8 {
		return nil
	}
	if err := s.complete(); err != nil {
		return err
	}
	if how >= 5 {
		return s.await(s.small[:])
	}
	return s.endAndDrain()
}

// dial opens a connection and makes it the client's current one.
func (c *client) dial(ctx context.Context) (*net.TCPConn, error) {
	// A probe of the dead would only cost system calls: each connection sends often enough.
	d := net.Dialer{Timeout: c.l.cfg.Patience, KeepAlive: -1}
	if c.g.Slow {
		d.Control = smallReceiveBuffer
	}
	var (
		conn net.Conn
		err  error
		done = make(chan struct{})
	)
	// In a goroutine of its own, because a dial goes deep: the client's stack would have 8 KiB ever after, instead of 4.
	go func() {
		defer close(done)
		conn, err = d.DialContext(ctx, "tcp", c.l.addr)
	}()
	<-done
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, &fault{Cut, 1, errors.New("stopped while dialling")}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err = fmt.Errorf("no local port is left; use fewer connections, or widen net.ipv4.ip_local_port_range: %w", err)
	case errors.Is(err, syscall.EMFILE):
		err = fmt.Errorf("this process may open no more files; raise \"ulimit -n\": %w", err)
	}
	if err != nil {
		return nil, &fault{Refused, 1, err}
	}
	c.set(conn.(*net.TCPConn))
	if ctx.Err() != nil { // cut after the dial and before set, so Stop's kill found nothing
		c.kill()
	}
	return conn.(*net.TCPConn), nil
}

// smallReceiveBuffer leaves a pile where it belongs, at the server's end. It must be set before connect, which fixes the window's scale.
func smallReceiveBuffer(_, _ string, raw syscall.RawConn) (err error) {
	ctlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10)
	})
	return errors.Join(ctlErr, err)
}

func (c *client) set(conn *net.TCPConn) {
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
}

// poke wakes the client from a read, so that it sees that the load is stopping. A client sets its deadline first and looks second, Stop
// does the reverse: none sleeps on. A deadline that poke has shortened does no harm, since a client looks at the clock when it wakes.
func (c *client) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// kill closes the connection under the client's hands.
func (c *client) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// enter completes f with what is in err, enters it in the ledger, and returns err.
func (c *client) enter(f Failure, err error) error {
	var why *fault
	if !errors.As(err, &why) {
		why = &fault{Drop, 1, err}
	}
	f.At, f.Kind, f.Client, f.Behaviour, f.What = c.l.now(), why.kind, c.id, c.g.Behaviour(), why.Error()
	c.l.ledger.add(f, why.n)
	return err
}
