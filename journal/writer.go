package journal

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// slowest is the longest pause between two attempts at a file that cannot be written.
const slowest = time.Second

// write is the goroutine that owns the file: it gathers for a window, commits, and tries again what failed. It returns after Close.
func (j *Journal) write() {
	defer close(j.ended)
	s := startSyncer(j)
	quiet := time.NewTimer(j.opt.Quiet)
	defer quiet.Stop()

	window := j.opt.Window
	for {
		select {
		case <-j.wake:
			j.gather(window)
		case <-j.urgent:
		case <-quiet.C:
			s.kick()
			continue
		case <-j.quit:
			j.final = j.finish(s)
			return
		}
		settled, err := j.flush()
		if settled {
			s.kick()
		}
		if err != nil {
			window = min(2*window, slowest)
			continue
		}
		window = j.opt.Window
		quiet.Reset(j.opt.Quiet)
	}
}

// gather waits for more to write, unless somebody waits for what is there.
func (j *Journal) gather(window time.Duration) {
	t := time.NewTimer(window)
	defer t.Stop()
	select {
	case <-t.C:
	case <-j.urgent:
	case <-j.quit:
	}
}

// flush writes what is pending. If that fails, those who intended are told, and the rest is pending again.
func (j *Journal) flush() (settled bool, err error) {
	batch := j.take()
	if err = j.put(batch); err != nil {
		j.giveBack(batch, err)
		return false, err
	}
	settled = batch.settled
	j.accept(batch)
	return settled, nil
}

// take makes the batch of what is pending.
func (j *Journal) take() *pending {
	j.mu.Lock()
	defer j.mu.Unlock()
	batch := j.pend
	if j.spare == nil {
		j.spare = newPending(j.opt.Events, j.opt.Recent)
	}
	j.pend, j.spare = j.spare, nil
	j.dirty = false
	j.health.begin()
	return batch
}

// put writes the batch. A page of the file that the disk cannot deliver is a fault in mapped memory, and bbolt panics where it finds what
// it did not expect: either costs the journal, not the server.
func (j *Journal) put(batch *pending) (err error) {
	if batch.empty() {
		return nil
	}
	if j.broken != nil {
		return j.broken
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			// bbolt may still hold its locks: the file is not touched again.
			j.broken = fmt.Errorf("journal: %s: %w: %v", j.path, ErrDamaged, r)
			err = j.broken
		}
	}()
	if err := j.disk.put(batch); err != nil {
		return fmt.Errorf("journal: write %s: %w", j.path, explain(err))
	}
	return nil
}

// accept is the end of a batch that is in the file.
func (j *Journal) accept(batch *pending) {
	askers, flushed := j.accepted(batch)
	for _, a := range askers {
		a.done(nil)
	}
	for _, done := range flushed {
		done(nil)
	}
	j.release(batch)
}

func (j *Journal) accepted(batch *pending) (askers []*asker, flushed []func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq, j.head = j.disk.last()
	j.health.end(nil, j.opt.Logger)
	for _, w := range batch.events {
		if w.asker == nil {
			continue
		}
		if w.asker.left {
			j.pend.event(j.own(Withdrawn{Seq: w.seq}))
			j.touch()
			continue
		}
		w.asker.settled = true
		askers = append(askers, w.asker)
	}
	return askers, batch.flushed
}

// giveBack is the end of a batch that is not in the file.
func (j *Journal) giveBack(batch *pending, err error) {
	askers, flushed := j.rejected(batch, err)
	for _, a := range askers {
		a.done(err)
	}
	for _, done := range flushed {
		done(err)
	}
}

func (j *Journal) rejected(batch *pending, err error) (askers []*asker, flushed []func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.health.end(err, j.opt.Logger)
	askers, flushed = batch.failed()
	batch.counts.Refused += uint64(len(askers)) // so there is something to try again with, until the disk is well
	later := j.pend
	askers = append(askers, batch.absorb(later)...)
	for _, a := range askers {
		a.settled = true
	}
	j.pend, j.spare = batch, later.reset()
	j.dirty = false
	j.touch()
	return askers, flushed
}

// release keeps a batch's memory for the next one.
func (j *Journal) release(batch *pending) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.health.idle()
	j.spare = batch.reset()
}

// Close seals the file, forces it to the disk and ends the journal's goroutines. What comes after is dropped, or answered with ErrClosed. A
// disk that does not answer is given [Options.Close]; then Close reports ErrHung, and the file stays unsealed. Closing again returns the
// same.
func (j *Journal) Close() error {
	j.mu.Lock()
	if !j.closed {
		j.closed = true
		close(j.quit)
	}
	j.mu.Unlock()

	t := time.NewTimer(j.opt.Close)
	defer t.Stop()
	select {
	case <-j.ended:
		return j.final
	case <-t.C:
		return fmt.Errorf("%w: %s is not sealed", ErrHung, j.path)
	}
}

// finish is the writer's end: everything that waits, the seal, a last sync.
func (j *Journal) finish(s *syncer) error {
	_, err := j.flush()
	if err == nil {
		j.seal()
		_, err = j.flush()
	}
	err = errors.Join(err, s.stop(j))
	if j.broken != nil {
		return err // closing might wait for ever for a lock that a panic left behind
	}
	return errors.Join(err, j.disk.close())
}

// seal appends the last event. Nothing is waiting before it but what the last batch itself had to add.
func (j *Journal) seal() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pend.event(j.own(Sealed{Why: j.why}))
}

// own makes an event of the journal's own. Called with the lock held.
func (j *Journal) own(data Data) waiting {
	body, err := encodeData(data)
	if err != nil {
		panic(err) // a number or a string always encodes
	}
	wall, mono := clock()
	return waiting{wall: wall, mono: mono, handoff: j.handoff, kind: data.Kind(), data: body}
}
