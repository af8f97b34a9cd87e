package conn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config says how a Server is to run. The zero value of a field means its default.
type Config struct {
	Run          int           // number of this run of the server; the first half of the ids of the sessions it opens
	Protocols    []Protocol    // the protocols that listeners may name
	Loops        int           // event loops; 0 = 1
	ReadTimeout  time.Duration // a peer that sends nothing for so long is closed; 0 = no limit
	WriteTimeout time.Duration // a peer that takes nothing for so long is closed; 0 = no limit
	HighWater    int           // bytes of unsent output above which a session's input is not read; 0 = 256 KiB
	MaxOutput    int           // bytes of unsent output above which Write returns ErrBehind; 0 = 4 MiB
	Log          *slog.Logger  // what no caller can be told: slow and panicking handlers, accept errors; nil = nowhere

	// Opened and Closed are told of each session that was accepted here, and of each that has ended here, with its reason (nil or io.EOF
	// = ordinary). Sessions that move are told to neither. They are called with the session locked: they must be quick and must not
	// call methods of Server or Conn.
	Opened func(Info)
	Closed func(Info, error)
}

const (
	defaultHighWater = 256 << 10
	defaultMaxOutput = 4 << 20
)

// A Server accepts connections and serves them from its event loops. All methods may be called from any goroutine, except from a
// Handler, Opened or Closed.
type Server struct {
	cfg       Config
	protocols map[string]*Protocol
	loops     []*loop
	counter   atomic.Uint64 // of sessions opened

	mu        sync.Mutex // guards what follows; taken after Conn.mu, never before
	conns     map[ID]*Conn
	copies    map[ID]*Conn  // giver: sockets kept after Give, or after the end of a session that was lent
	borrowed  map[ID]*Conn  // receiver: sockets that are not ours yet
	listeners []*Listener   // by index; nil = closed
	emptied   chan struct{} // closed when conns becomes empty; nil = nobody waits
}

// New starts a server's event loops. Close ends them.
func New(cfg Config) (*Server, error) {
	s := &Server{
		cfg: cfg, protocols: map[string]*Protocol{},
		conns: map[ID]*Conn{}, copies: map[ID]*Conn{}, borrowed: map[ID]*Conn{},
	}
	s.cfg.complete()
	for _, p := range cfg.Protocols {
		q, err := p.complete()
		if err != nil {
			return nil, err
		}
		s.protocols[q.Name] = q
	}
	for range s.cfg.Loops {
		l, err := newLoop(s)
		if err != nil {
			s.quitLoops()
			return nil, fmt.Errorf("conn: event loop: %w", err)
		}
		s.loops = append(s.loops, l)
		go l.run()
	}
	return s, nil
}

func (c *Config) complete() {
	if c.Loops <= 0 {
		c.Loops = 1
	}
	if c.HighWater <= 0 {
		c.HighWater = defaultHighWater
	}
	if c.MaxOutput <= 0 {
		c.MaxOutput = defaultMaxOutput
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Opened == nil {
		c.Opened = func(Info) {}
	}
	if c.Closed == nil {
		c.Closed = func(Info, error) {}
	}
}

// Len is the number of sessions that are ours.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// IDs names the sessions that are ours, in no order.
func (s *Server) IDs() []ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]ID, 0, len(s.conns))
	for id := range s.conns {
		ids = append(ids, id)
	}
	return ids
}

// Get returns a session of ours, or nil.
func (s *Server) Get(id ID) *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[id]
}

// Beat returns once every loop has gone round, or says which does not.
func (s *Server) Beat(ctx context.Context) error {
	for i, l := range s.loops {
		went := make(chan struct{})
		go func() { l.do(func() {}); close(went) }()
		select {
		case <-went:
		case <-ctx.Done():
			return fmt.Errorf("conn: loop %d does not go round: %w", i, context.Cause(ctx))
		}
	}
	return nil
}

// Shutdown stops accepting, closes the listeners, and ends every session with ErrStopped once its output has been sent. It returns when
// they have ended; if ctx ends first, it resets those that are left, and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.CloseListeners()
	for _, c := range s.all() {
		c.Close(ErrStopped)
	}
	select {
	case <-s.empty():
		return nil
	case <-ctx.Done():
	}
	for _, c := range s.all() {
		c.loop.do(func() { c.loop.abandon(c) })
	}
	return context.Cause(ctx)
}

// abandon resets a session, whatever it is at. One that is frozen may be another process's by now: only our descriptor is closed.
func (l *loop) abandon(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.phase {
	case idle, running:
		l.close(c, true)
	case frozen:
		l.leave(c)
	}
}

// leave closes our descriptor of a session, and nothing else.
func (l *loop) leave(c *Conn) {
	c.phase = closed
	c.out.close()
	l.remove(c)
	unix.Close(c.fd)
	l.srv.mu.Lock()
	delete(l.srv.conns, c.id)
	l.srv.noticeEmpty()
	l.srv.mu.Unlock()
}

// Leave closes every descriptor and ends the loops, like Close, but ends no connection that another process has a copy of: it is for a
// process that is about to exit so that another one can take its sessions back.
func (s *Server) Leave() error {
	for _, c := range s.all() {
		c.loop.do(func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.phase == idle || c.phase == running || c.phase == frozen {
				c.loop.leave(c)
			}
		})
	}
	return s.Close()
}

// Close ends the loops and closes every descriptor: listeners, sessions, copies. Peers of sessions that are still ours are reset; of
// those that another process holds, they notice nothing.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(nil)
	err := s.Shutdown(ctx)
	given, borrowed := s.Held()
	s.Release(given...)
	s.Drop(borrowed)
	s.quitLoops()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

func (s *Server) quitLoops() {
	for _, l := range s.loops {
		l.quit()
	}
}

func (s *Server) all() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Conn, 0, len(s.conns))
	for _, c := range s.conns {
		all = append(all, c)
	}
	return all
}

// empty returns a channel that is closed once no session is ours.
func (s *Server) empty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.emptied == nil {
		s.emptied = make(chan struct{})
	}
	done := s.emptied
	s.noticeEmpty()
	return done
}

// noticeEmpty wants mu held.
func (s *Server) noticeEmpty() {
	if s.emptied != nil && len(s.conns) == 0 {
		close(s.emptied)
		s.emptied = nil
	}
}

// opened puts a new session in the books. It wants c.mu held, so that nothing happens to c before it is known.
func (s *Server) opened(c *Conn) {
	s.mu.Lock()
	s.conns[c.id] = c
	s.mu.Unlock()
	s.cfg.Opened(c.info())
}

// ended takes a session out of the books. It wants c.mu held.
func (s *Server) ended(c *Conn, reason error) {
	s.mu.Lock()
	delete(s.conns, c.id)
	if c.loan {
		s.copies[c.id] = c
	}
	s.noticeEmpty()
	s.mu.Unlock()
	s.cfg.Closed(c.info(), reason)
}
