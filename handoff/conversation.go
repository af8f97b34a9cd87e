package handoff

import (
	"errors"
	"io"
	"sync"
	"time"

	"baton/conn"
	"baton/handoff/internal/step"
	"baton/handoff/protocol"
	"baton/handoff/wire"
)

// A conversation drives one machine of package protocol: it feeds it what happens, and has what it answers done. Inputs come from the
// channel's reader, from timers, and from whoever else; one is worked off at a time.
type conversation struct {
	machine interface {
		Step(protocol.Input) []protocol.Output
	}
	// perform does one thing and returns the answer, if it was a question. It is called with mu held.
	perform func(protocol.Output) []protocol.Input
	timeout func(protocol.Timer) time.Duration
	as      string               // journal.Predecessor or journal.Successor
	note    func(protocol.Input) // told of each input that comes from outside, before it is worked off
	channel *wire.Channel

	mu       sync.Mutex
	heard    chan struct{} // closed when the reader has come to the channel's end; nil = there is no channel
	received []int         // descriptors of the message being worked off, as long as nobody has taken them
	timers   map[protocol.Timer]*time.Timer
	over     bool // nothing is put in any more

	inbox   sync.Mutex
	posted  []protocol.Input
	opened  []conn.ID
	closed  []conn.ID
	wake    chan struct{}
	quit    chan struct{}
	running sync.WaitGroup
}

func (c *conversation) start() {
	c.timers = map[protocol.Timer]*time.Timer{}
	c.wake, c.quit = make(chan struct{}, 1), make(chan struct{})
	c.running.Add(1)
	go c.deliver()
}

// listen starts the conversation's reader. From here the channel is the conversation's.
func (c *conversation) listen(ch *wire.Channel) {
	heard := make(chan struct{})
	c.mu.Lock()
	c.channel, c.heard = ch, heard
	c.mu.Unlock()
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		defer close(heard)
		for {
			m, fds, err := ch.Receive()
			if errors.Is(err, io.EOF) {
				c.put(protocol.Broken{Reason: "the other side hung up"})
				return
			}
			if _, lend := m.(*wire.Lend); lend && errors.Is(err, wire.ErrRoom) {
				err = nil // whoever has to borrow finds out
			}
			if err != nil {
				c.put(protocol.Broken{Reason: err.Error()})
				return
			}
			c.putWith(protocol.Received{Message: m}, fds)
		}
	}()
}

// hearOut waits, for a moment, until all is read that the other side had said before it ended. Its last word may have been BYE.
func (c *conversation) hearOut() {
	c.mu.Lock()
	heard := c.heard
	c.mu.Unlock()
	if heard == nil {
		return
	}
	select {
	case <-heard:
	case <-time.After(time.Second): // a process that it started may hold its end
	}
}

// stop ends the conversation's goroutines and timers, and closes the channel. It must not be called by perform.
func (c *conversation) stop() {
	c.mu.Lock()
	c.over = true
	for _, t := range c.timers {
		t.Stop()
	}
	ch := c.channel
	c.mu.Unlock()
	if ch != nil {
		patience := time.AfterFunc(c.timeout(protocol.AnswerTimer), func() { ch.Close() })
		ch.Flush() // the last word, BYE or ABORT, may still be on its way
		patience.Stop()
		ch.Close()
	}
	close(c.quit)
	c.running.Wait()
}

// settle returns when the input that is being worked off has been, with all that follows from it.
func (c *conversation) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
}

// put has an input worked off, with all that follows from it.
func (c *conversation) put(in protocol.Input) { c.putWith(in, nil) }

// putWith, as all that works off an input, does not let go of mu in a panic: the process is about to end, and a machine that stands in the
// middle of a step must not be driven on by others until it has.
func (c *conversation) putWith(in protocol.Input, fds []int) {
	c.mu.Lock()
	if !c.over {
		c.received = fds
		c.note(in)
		c.came(in)
		fds, c.received = c.received, nil
	}
	c.mu.Unlock()
	closeFDs(fds)
}

// came works off an input from outside. It wants mu held.
func (c *conversation) came(in protocol.Input) {
	step.At(c.as, step.On, in)
	c.work(in)
}

// work wants mu held.
func (c *conversation) work(in protocol.Input) {
	for _, out := range c.machine.Step(in) {
		switch out := out.(type) {
		case protocol.SetTimer:
			c.setTimer(out.Timer)
		default:
			step.At(c.as, step.Before, out)
			answers := c.perform(out)
			step.At(c.as, step.After, out)
			for _, answer := range answers {
				c.work(answer)
			}
		}
	}
}

func (c *conversation) setTimer(t protocol.Timer) {
	if old := c.timers[t]; old != nil {
		old.Stop()
	}
	var timer *time.Timer
	looks := 0
	timer = time.AfterFunc(c.timeout(t), func() {
		c.mu.Lock()
		switch looks++; {
		case c.over, c.timers[t] != timer: // it was set anew while this waited for the lock
		case looks < maxLooks && c.unheard():
			timer.Reset(time.Millisecond)
		default:
			c.came(protocol.Expired{Timer: t})
		}
		c.mu.Unlock()
	})
	c.timers[t] = timer
}

// maxLooks is how often a timer that has run out looks whether all is heard, at most: who says ever more is not given ever more time.
const maxLooks = 200

// unheard reports whether something waits to be heard. This process may have stood still, and what came meanwhile came in time. It wants mu
// held.
func (c *conversation) unheard() bool {
	if c.channel == nil || c.heard == nil {
		return false
	}
	select {
	case <-c.heard:
		return false
	default:
		return c.channel.Unheard()
	}
}

// post is put for those who must not wait: callbacks of conn and journal.
func (c *conversation) post(in protocol.Input) {
	c.inbox.Lock()
	defer c.inbox.Unlock()
	c.posted = append(c.posted, in)
	c.poke()
}

// noteOpened and noteClosed gather sessions, so that many at a time become one input.
func (c *conversation) noteOpened(id conn.ID) {
	c.inbox.Lock()
	defer c.inbox.Unlock()
	c.opened = append(c.opened, id)
	c.poke()
}

func (c *conversation) noteClosed(id conn.ID) {
	c.inbox.Lock()
	defer c.inbox.Unlock()
	c.closed = append(c.closed, id)
	c.poke()
}

func (c *conversation) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// deliver is the goroutine that puts in what was posted.
func (c *conversation) deliver() {
	defer c.running.Done()
	for {
		select {
		case <-c.wake:
		case <-c.quit:
			return
		}
		c.putCollected()
	}
}

// putCollected puts in what was posted. It is collected with mu held, so that a question for sessions (StopAccepting) does not find them
// taken here and not yet put in.
func (c *conversation) putCollected() {
	c.mu.Lock()
	for _, in := range c.collect() {
		if !c.over {
			c.came(in)
		}
	}
	c.mu.Unlock()
}

func (c *conversation) collect() []protocol.Input {
	ins := c.takeSessions()
	c.inbox.Lock()
	defer c.inbox.Unlock()
	ins = append(ins, c.posted...)
	c.posted = nil
	return ins
}

// takeSessions returns what was gathered of opened and closed sessions.
func (c *conversation) takeSessions() (ins []protocol.Input) {
	c.inbox.Lock()
	defer c.inbox.Unlock()
	if len(c.opened) > 0 {
		ins = append(ins, protocol.Opened{IDs: c.opened})
	}
	if len(c.closed) > 0 {
		ins = append(ins, protocol.Ended{IDs: c.closed})
	}
	c.opened, c.closed = nil, nil
	return ins
}
