package conn

// Rounds is how often the server's loops have gone round.
func (s *Server) Rounds() (n uint64) {
	for _, l := range s.loops {
		n += l.rounds.Load()
	}
	return n
}
