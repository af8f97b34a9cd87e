package conn

import "golang.org/x/sys/unix"

// The books: which sessions a server has, and in what capacity. A session is in one of conns, copies and borrowed, or in none; who takes
// it out of copies or borrowed owns its descriptor.

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

// Held names the sessions of which we hold a copy of the socket without owning them.
func (s *Server) Held() (given, borrowed []ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return keys(s.copies), keys(s.borrowed)
}

func keys(m map[ID]*Conn) []ID {
	ids := make([]ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	return ids
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

// forget takes a session out of the books, as one that did not end here. It wants c.mu held.
func (s *Server) forget(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
	s.noticeEmpty()
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

// find returns the sessions of ours with these ids, nil where there is none.
func (s *Server) find(ids []ID) []*Conn { return s.findIn(s.conns, ids) }

func (s *Server) findIn(m map[ID]*Conn, ids []ID) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]*Conn, len(ids))
	for i, id := range ids {
		found[i] = m[id]
	}
	return found
}

// takeFrom takes sessions out of one of the books, and returns those that were there.
func (s *Server) takeFrom(m map[ID]*Conn, ids []ID) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := make([]*Conn, 0, len(ids))
	for _, id := range ids {
		if c := m[id]; c != nil {
			delete(m, id)
			taken = append(taken, c)
		}
	}
	return taken
}

// drop closes the descriptor of a session that has been taken out of copies or borrowed.
func (c *Conn) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = closed
	c.loop.remove(c)
	unix.Close(c.fd)
}
