package conn

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Config says how a Server is to run. The zero value of a field means its default.
type Config struct {
	Run          int           // number of this run of the server; the first half of the ids of the sessions it opens
	Protocols    []Protocol    // the protocols that listeners may name
	Loops        int           // event loops; 0 = 1
	ReadTimeout  time.Duration // a peer that sends nothing for so long is closed; 0 = no limit
	WriteTimeout time.Duration // a peer that takes nothing for so long is closed; 0 = no limit
	HighWater    int           // bytes of unsent output above which a session's input is neither read nor shown to its handler; 0 = 256 KiB
	MaxOutput    int           // bytes of unsent output above which Write returns ErrBehind; 0 = 4 MiB
	Log          *slog.Logger  // told what no caller can be: slow and panicking handlers, accept errors; nil = nowhere

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

// A Server accepts connections and serves them from its event loops. All methods may be called from any goroutine, but not by a
// Handler that runs on a loop, by Opened or by Closed: they may have to wait for just that.
type Server struct {
	cfg       Config
	protocols map[string]*Protocol
	loops     []*loop
	counter   atomic.Uint64 // of sessions opened

	mu            sync.Mutex     // guards what follows; taken after Conn.mu, never before
	conns         map[ID]*Conn   // sessions that are ours: served, or frozen
	copies        map[ID]*Conn   // giver: sockets kept after Give, or after the end of a session that was lent
	slate         *Slate         // nil = no handoff is on
	slateVersions map[string]int // of handlers' states on it, by protocol
	borrowed      map[ID]*Conn   // receiver: sockets that are not ours yet
	listeners     []*Listener    // by index, which epoll's events carry; nil = closed
	emptied       chan struct{}  // closed when conns becomes empty; nil = nobody waits
	stopped       bool           // by Close or Leave: nothing that comes now would be closed
}

// New starts a server's event loops. Close ends them. The error is of a Protocol that is incomplete or named twice, or the system's.
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
		if s.protocols[q.Name] != nil {
			return nil, fmt.Errorf("conn: protocol %q: there are two of that name", q.Name)
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

// Beat returns once every loop has gone round, or says which does not: ctx's error, or ErrStopped after Close.
func (s *Server) Beat(ctx context.Context) error {
	for i, l := range s.loops {
		went := make(chan bool, 1)
		go func() { went <- l.do(func() {}) }() // ends with the loop, at the latest
		select {
		case ok := <-went:
			if !ok {
				return ErrStopped
			}
		case <-ctx.Done():
			return fmt.Errorf("conn: loop %d does not go round: %w", i, context.Cause(ctx))
		}
	}
	return nil
}

// Shutdown stops accepting, closes the listeners, and ends every session with ErrStopped once its output has been sent. It returns when
// they have ended; if ctx ends first, it resets those that are left, and returns ctx's error. It waits for handlers on the loops, which
// therefore must return, and not for blocking ones, which learn from Write that their session is over.
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
	s.abandon()
	return context.Cause(ctx)
}

// Leave closes every descriptor and ends the loops, like Close, but ends no connection that another process has a copy of: it is for a
// process that is about to exit so that another one can take its sessions back.
func (s *Server) Leave() error {
	s.stop()
	s.CloseListeners()
	for _, c := range s.all() {
		c.mu.Lock()
		if c.served() || c.phase == frozen {
			c.loop.leave(c)
		}
		c.mu.Unlock()
	}
	return s.Close()
}

// Close ends the loops and closes every descriptor: listeners, sessions, copies. Peers of sessions that are still ours are reset; those
// of sessions that another process holds notice nothing. It waits for handlers as Shutdown does. Closing twice does nothing. The error
// is nil.
func (s *Server) Close() error {
	s.stop()
	s.CloseListeners()
	s.abandon()
	given, borrowed := s.Held()
	s.Release(given...)
	s.Drop(borrowed)
	s.quitLoops()
	return nil
}

func (s *Server) abandon() {
	for _, c := range s.all() {
		c.loop.abandon(c)
	}
}

// stop has everything refused that would bring another descriptor.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

func (s *Server) quitLoops() {
	for _, l := range s.loops {
		l.quit()
	}
}
