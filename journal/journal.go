package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// A Journal writes one run's file. Its methods may be called from any goroutine; none but Commit, Snapshot and Close waits for the disk.
type Journal struct {
	path string
	opt  Options
	disk disk

	wake   chan struct{} // something waits to be written
	urgent chan struct{} // somebody waits for it
	quit   chan struct{} // closed by Close
	ended  chan struct{} // the writer has returned; final is set
	final  error
	broken error // the file must not be touched any more; the writer's own

	mu      sync.Mutex // guards what follows
	pend    *pending
	spare   *pending // memory for the next
	dirty   bool     // wake was told of pend
	run     Run
	handoff string // the id that events carry now
	why     string // of the last Move, for the seal
	closed  bool
	seq     uint64 // of the last event in the file
	head    Hash   // of its bytes
	health  health
}

// Create makes the file of a new run in dir, which it creates if need be, and writes r and the first event into it. The file gets the first
// number above every existing one; its creation reserves the number, so that runs which are started at the same moment get different ones.
// Fields of r that a process knows of itself (PID, Go, BootID, Started) are filled in where they are zero.
//
// Files in dir that cannot be read are set aside under another name, and events say so. The Journal is the caller's to close.
func Create(dir string, r Run, opt Options) (*Journal, error) {
	opt = opt.withDefaults()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	aside, err := setAsideUnreadable(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	path, number, err := reserve(dir, opt.After)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	r = r.known()
	r.Number = number
	d, err := createDisk(path, r, opt.Recent)
	if err != nil {
		return nil, fmt.Errorf("journal: create %s: %w", path, explain(err))
	}
	j := newJournal(path, r, opt, d)
	for _, a := range aside {
		opt.Logger.Warn("journal: a file was set aside", "file", a.File, "as", a.As, "reason", a.Reason)
		j.Record(a)
	}
	return j, nil
}

func newJournal(path string, r Run, opt Options, d disk) *Journal {
	j := &Journal{
		path: path, run: r, opt: opt, disk: d,
		pend:   newPending(opt.Events, opt.Recent),
		wake:   make(chan struct{}, 1),
		urgent: make(chan struct{}, 1),
		quit:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
	j.seq, j.head = d.last()
	go j.write()
	return j
}

// Number is the run's.
func (j *Journal) Number() int { return j.run.Number }

// Path is the file's.
func (j *Journal) Path() string { return j.path }

// Record notes an event. It is in the file one group commit later, 50 ms at most, if the disk takes it. Record never waits; data is not
// kept. While the file cannot be written a limited number of events wait, and a Gap stands for the rest.
func (j *Journal) Record(data Data) { j.queue(data, nil) }

// Intend is Record for an event that has to be in the file before the act. It is committed at once, and done is called when it is in the
// file, or with the reason why it is not and never will be; while the disk does not answer, neither happens. done is called once, from a
// goroutine of the journal's: it must not wait.
func (j *Journal) Intend(data Data, done func(error)) { j.queue(data, &asker{done: done}) }

// Commit is Intend and waiting for it. If ctx ends first, Commit returns its error, and the event will not count: it is taken out, or, where
// it is being written already, a Withdrawn follows it.
func (j *Journal) Commit(ctx context.Context, data Data) error {
	answer := make(chan error, 1)
	a := &asker{done: func(err error) { answer <- err }}
	j.queue(data, a)
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	if j.leave(a) {
		return fmt.Errorf("journal: %s: %w", data.Kind(), context.Cause(ctx))
	}
	return <-answer
}

// EndHandoff says that the events from here on belong to no handoff. Recording a Handoff begins one.
func (j *Journal) EndHandoff() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.handoff = ""
}

// SetPredecessor notes the run that this one takes over from, once it is known.
func (j *Journal) SetPredecessor(n int) {
	j.change(func(p *pending) {
		j.run.Predecessor = n
		r := j.run
		p.run = &r
	})
}

// Opened notes a session that has come: accepted here, or, with Place Taken, arrived from another run. It costs a lock and a map entry.
// An id may come again after it was Closed, not before.
func (j *Journal) Opened(s Session) {
	if s.Opened.IsZero() {
		s.Opened = time.Now()
	}
	j.change(func(p *pending) {
		if s.Place == Own {
			p.counts.Opened++
		} else {
			p.counts.Adopted++
		}
		p.open(s)
	})
}

// Closed notes a session's end. read and written are its positions, in bytes. The reason is for people and must hold nothing of what the
// session carried. A session that is not known, or has ended before, is passed over.
func (j *Journal) Closed(id uint64, reason string, read, written uint64) {
	e := ending{at: time.Now(), reason: reason, read: read, written: written}
	j.change(func(p *pending) { p.close(ID(id), e) })
}

// Place notes where sessions stand in a handoff. ids is not kept.
func (j *Journal) Place(place Place, ids ...uint64) {
	j.change(func(p *pending) {
		for _, id := range ids {
			p.place(ID(id), place)
		}
	})
}

// Head returns the sequence and hash of the last event in the file.
func (j *Journal) Head() (seq uint64, head [32]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq, j.head
}

// queue puts an event at the end of what waits. A nil a is a Record.
func (j *Journal) queue(data Data, a *asker) {
	body, err := encodeData(data)
	if err == nil {
		err = j.append(data, body, a)
	} else {
		j.change(func(p *pending) { p.counts.Lost++ })
	}
	if err != nil && a != nil {
		go a.done(err)
	}
}

func (j *Journal) append(data Data, body json.RawMessage, a *asker) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	j.note(data)
	wall, mono := clock() // under the lock: the chain's order is the clock's
	if !j.pend.event(waiting{wall: wall, mono: mono, handoff: j.handoff, kind: data.Kind(), data: body, asker: a}) {
		return ErrFull
	}
	j.touch()
	if a != nil {
		poke(j.urgent)
	}
	return nil
}

// note keeps what later events, the seal and the disk need to know of this one. Called with the lock held.
func (j *Journal) note(data Data) {
	switch d := data.(type) {
	case Handoff:
		j.handoff = d.ID
	case Move:
		j.why = d.Why
	case Done, Abort, Bye:
		j.pend.settled = true
	}
}

// leave withdraws an event whose asker waits no longer. It reports false if the answer is on its way.
func (j *Journal) leave(a *asker) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a.settled {
		return false
	}
	if !j.pend.drop(a) {
		a.left = true // being written; see accepted
	}
	return true
}

// change lets fn change what is pending, unless the journal is closed.
func (j *Journal) change(fn func(*pending)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	fn(j.pend)
	j.touch()
}

// touch tells the writer that something waits. Called with the lock held.
func (j *Journal) touch() {
	if !j.dirty {
		j.dirty = true
		poke(j.wake)
	}
}

// poke leaves a word in a channel of one place.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
