package handoff

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"baton/handoff/wire"

	"golang.org/x/sys/unix"
)

// The door: who connects to this run's socket.

// answerDoor greets those who connect, one at a time for each: a process that only wants to know whether somebody is here, a successor
// that we have started, or one that wants to take over.
func (r *run) answerDoor(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			r.log.Error("accepting on the handoff socket", "error", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		go r.greet(c)
	}
}

// greetTimeout is how long a visitor may take to say HELLO.
const greetTimeout = 5 * time.Second

func (r *run) greet(c *net.UnixConn) {
	p, err := identify(c)
	if err != nil {
		r.log.Warn("a process was turned away", "error", err)
		c.Close()
		return
	}
	ch, err := wire.NewChannel(c, r.cfg.Timeouts.Answer)
	if err != nil {
		p.pidfd.Close()
		return
	}
	c.SetReadDeadline(time.Now().Add(greetTimeout))
	m, fds, err := ch.Receive()
	c.SetReadDeadline(time.Time{})
	closeFDs(fds)
	hello, ok := m.(*wire.Hello)
	if !ok {
		if !errors.Is(err, io.EOF) { // who says nothing only wanted to know whether somebody is here
			r.log.Warn("a process was turned away: it did not say HELLO", "pid", p.pid, "error", err)
		}
		ch.Close()
		p.pidfd.Close()
		return
	}
	r.introduce(&visitor{peer: p, channel: ch, hello: hello})
}

// A visitor is a process that has said HELLO.
type visitor struct {
	peer    peer
	channel *wire.Channel
	hello   *wire.Hello
}

// turnAway tells a visitor why it is not wanted.
func (v *visitor) turnAway(reason string) {
	v.channel.Send(&wire.Abort{Code: wire.Refused, Reason: reason})
	v.channel.Flush()
	v.channel.Close()
	v.peer.pidfd.Close()
}

// introduce brings a visitor to the handoff that waits for it, or begins one.
func (r *run) introduce(v *visitor) {
	r.mu.Lock()
	g := r.current
	r.mu.Unlock()
	if g != nil && g.expects(v) {
		return
	}
	if !v.hello.Takeover {
		v.turnAway(fmt.Sprintf("run %d did not start process %d: a script that starts the server has to exec it; to take over without being started, use -takeover",
			r.number, v.peer.pid))
		return
	}
	req := newRequest("takeover")
	req.visitor = v
	if err := r.ask(req); err != nil {
		v.turnAway(err.Error())
	}
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
