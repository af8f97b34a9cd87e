package conn

// Beats is when each loop last went round: a loop with nothing to do does not.
func (s *Server) Beats() (beats []int64) {
	for _, l := range s.loops {
		beats = append(beats, l.beat.Load())
	}
	return beats
}
