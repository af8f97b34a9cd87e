package conn

import "time"

// Timeouts lie in the loop's wheel, once for each session, and are looked at lazily: what restarts one changes a number in the session
// and nothing in the wheel.

// restartReadTimeout gives the peer its time anew if something has come, and for the first time if it had none.
func (c *Conn) restartReadTimeout(now int64, fresh bool) {
	switch {
	case c.input.eof:
		c.readBy = 0
	case fresh || c.readBy == 0:
		c.readBy = startTimer(now, c.loop.srv.cfg.ReadTimeout)
	}
}

// schedule has the session looked at when the first of its timeouts can have come.
func (l *loop) schedule(c *Conn) {
	l.wheel.wind(l.now)
	for _, t := range [2]timer{c.readBy, c.out.timer()} {
		if t > 0 && (c.timed == 0 || tick(l.wheel.at(int64(t))).before(c.timed)) {
			c.timed = l.wheel.add(c.ref, int64(t))
		}
	}
}

// timeout looks at a session whose time may have come. It gets a turn first: this process, or only the loop, may have stood still, and
// what the peer did meanwhile counts.
func (l *loop) timeout(r ref) {
	c := l.find(r)
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if tickOf(l.now).before(c.timed) {
		return // an entry for a later time is in the wheel as well
	}
	c.timed = 0
	switch {
	case !c.served() || !c.due(l.now):
	case c.phase == running:
		c.flush()
	default:
		c.input.ready = true
		l.work(c)
	}
	if c.served() && c.due(l.now) {
		l.strike(c)
	}
	if c.served() {
		l.schedule(c)
		l.watchOutput(c)
	}
}

func (c *Conn) due(now int64) bool {
	return c.readBy.due(now) || c.out.timer().due(now)
}

// strike ends a session whose timeout has come.
func (l *loop) strike(c *Conn) {
	switch {
	case c.out.timer().due(l.now):
		c.out.fail(ErrWriteTimeout)
		if c.phase == idle {
			l.close(c, true)
		} // else when the handler returns, which its next Write will have it do
	case c.input.shut:
		l.close(c, false) // lingered long enough; a reset would cut off what a slow peer has still to receive
	default:
		c.out.end(ErrReadTimeout)
		l.work(c)
	}
}

// A timer is a deadline that stands still while its session is frozen. Above 0, it is the monotonic ns at which it strikes; below, it
// is frozen with so many ns left; 0 = not running.
type timer int64

// startTimer returns a timer that strikes after timeout; 0 = never.
func startTimer(now int64, timeout time.Duration) timer {
	if timeout <= 0 {
		return 0
	}
	return timer(now + int64(timeout))
}

func (t timer) due(now int64) bool { return t > 0 && int64(t) <= now }

// freeze returns what is left: 0 if the timer is not running, else at least 1 ns.
func (t *timer) freeze(now int64) (left time.Duration) {
	if *t > 0 {
		*t = -timer(max(int64(*t)-now, 1))
	}
	return time.Duration(-*t)
}

func (t *timer) resume(now int64) {
	if *t < 0 {
		*t = timer(now) - *t
	}
}
