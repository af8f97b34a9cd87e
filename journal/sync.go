package journal

import "fmt"

// A syncer forces the file to the disk, in a goroutine of its own: a slow fsync delays nobody.
type syncer struct {
	again chan struct{}
	ended chan struct{}
}

func startSyncer(j *Journal) *syncer {
	s := &syncer{again: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		for range s.again {
			j.synced(j.disk.sync())
		}
	}()
	return s
}

// kick asks for a sync of all that has been written so far.
func (s *syncer) kick() { poke(s.again) }

// stop asks for a last one and waits for it.
func (s *syncer) stop(j *Journal) error {
	s.kick()
	close(s.again)
	<-s.ended
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.health.sync
}

func (j *Journal) synced(err error) {
	if err != nil {
		err = fmt.Errorf("journal: sync %s: %w", j.path, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.health.sync = err
}
