package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const (
	ping = "ping"
	pong = "pong"
)

// maxRun is how many bytes are written or read at once, at most.
const maxRun = 16 << 10

// Any run of a stream is a slice of these, begun at its phase.
var (
	pings = bytes.Repeat([]byte(ping), maxRun/len(ping)+1)
	pongs = bytes.Repeat([]byte(pong), maxRun/len(pong)+1)
)

// A fault is an error together with the verdict that it leads to.
type fault struct {
	kind Kind
	n    int64 // how often it counts: bytes if Wrong, else 1
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// A stream is one connection's two directions: what was sent, what is owed for it, and what has come. One goroutine uses it.
type stream struct {
	l     *Load
	c     *net.TCPConn
	meter *shard
	timed bool // latencies are recorded

	sent  int64           // bytes of pings written
	owed  int64           // bytes of pongs that may come in all
	got   int64           // bytes of pongs that have come and were right
	due   []time.Duration // if timed: when each unanswered ping was to be sent, oldest first
	heard time.Duration   // the last answer, or the send that ended a time in which nothing was owed; Patience counts from here
	armed time.Duration   // the read deadline that is set; 0 = none, or passed
	small [64]byte        // read buffer
}

// send writes the next n bytes of pings, at most maxRun. A ping completed by them was due at the given time.
func (s *stream) send(n int, due time.Duration) error {
	phase := s.sent % int64(len(ping))
	for range (phase + int64(n)) / int64(len(ping)) {
		s.owe(len(pong))
		if s.timed {
			s.due = append(s.due, due)
		}
	}
	s.sent += int64(n)
	if _, err := s.c.Write(pings[phase : phase+int64(n)]); err != nil {
		return s.lost("write", err)
	}
	return nil
}

// owe expects n more bytes of pongs.
func (s *stream) owe(n int) {
	if s.got == s.owed {
		s.heard = s.l.now()
	}
	s.owed += int64(n)
}

// read takes what is there, at most maxRun bytes, or waits for it until the deadline that is set. It returns os.ErrDeadlineExceeded
// wrapped, a Wrong for a byte that differs or is not owed, or a Drop for any other end of the stream; the Drop wraps io.EOF if that was it.
func (s *stream) read(buf []byte) error {
	n, err := s.c.Read(buf)
	if n > 0 {
		return s.verify(buf[:n]) // net.Conn reports an error by itself, without bytes
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.armed = 0
		return err
	}
	return s.lost("read", err)
}

// verify compares what came with what is owed, and settles the pings that it answers.
func (s *stream) verify(b []byte) error {
	rightful := min(int64(len(b)), s.owed-s.got)
	phase := s.got % int64(len(pong))
	if !bytes.Equal(b, pongs[phase:phase+rightful]) {
		return s.wrong(b, pongs[phase:phase+rightful])
	}
	s.got += rightful
	s.heard = s.l.now()
	frames := (phase + rightful) / int64(len(pong))
	if s.timed {
		for _, due := range s.due[:frames] {
			s.meter.answered(s.heard - due)
		}
		s.due = s.due[:copy(s.due, s.due[frames:])]
	}
	s.meter.verified(frames, rightful)
	return nil
}

// wrong describes how what came differs from what was expected, which may be shorter.
func (s *stream) wrong(came, expected []byte) error {
	first, differ, surplus := -1, 0, len(came)-len(expected)
	for i, want := range expected {
		if came[i] != want {
			if differ++; first < 0 {
				first = i
			}
		}
	}
	if first < 0 {
		first = len(expected)
	}
	excerpt := came[first:min(len(came), first+16)]
	return &fault{Wrong, int64(differ + surplus), fmt.Errorf("byte %d of the answers and on is %q: of %d bytes that came at once %d differ and %d are surplus",
		s.got+int64(first), excerpt, len(came), differ, surplus)}
}

// lost makes the end of a connection a Drop, or a Cut if it was our own doing.
func (s *stream) lost(op string, err error) error {
	if errors.Is(err, net.ErrClosed) {
		return &fault{Cut, 1, errors.New("stopped before it could be checked to its end")}
	}
	if wrapped, ok := errors.AsType[*net.OpError](err); ok {
		err = wrapped.Err // the addresses are in the Failure
	}
	if err == io.EOF {
		err = fmt.Errorf("the server closed the connection: %w", err)
	}
	return &fault{Drop, 1, fmt.Errorf("%s: %w%s", op, err, s.debts())}
}

// silent is the Drop of a server that has said nothing for longer than Patience.
func (s *stream) silent(missing string) error {
	return &fault{Drop, 1, fmt.Errorf("no %s within %v%s", missing, s.l.cfg.Patience, s.debts())}
}

// debts tells what had been asked and not answered.
func (s *stream) debts() (out string) {
	if n := s.owed - s.got; n > 0 {
		out = fmt.Sprintf(", %d bytes of pongs owed", n)
	}
	if half := s.sent % int64(len(ping)); half > 0 {
		out += fmt.Sprintf(", %d bytes into a ping", half)
	}
	return out
}

// arm makes the next read end at the given time or sooner. An earlier deadline is left alone: waking for nothing now and then is cheaper
// than moving the timer twice per ping.
func (s *stream) arm(at time.Duration) error {
	if s.armed != 0 && s.armed <= at {
		return nil
	}
	s.armed = at
	if err := s.c.SetReadDeadline(s.l.epoch.Add(at)); err != nil {
		return s.lost("set deadline", err)
	}
	return nil
}

// lastLook is how long a read may take after Patience is over. A client that was itself asleep finds its deadline passed although the
// answer lies there, and net.Conn then says timeout without looking.
const lastLook = 50 * time.Millisecond

// readPatiently reads once. If nothing comes within Patience of the last that was heard, it returns the Drop.
func (s *stream) readPatiently(buf []byte, missing string) error {
	until := s.heard + s.l.cfg.Patience
	for looks := 0; ; {
		if err := s.arm(until); err != nil {
			return err
		}
		err := s.read(buf)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if now := s.l.now(); now >= until {
			if looks++; looks > 1 {
				return s.silent(missing)
			}
			until = now + lastLook
		}
	}
}

// await reads until nothing is owed.
func (s *stream) await(buf []byte) error {
	for s.got < s.owed {
		if err := s.readPatiently(buf, "pong"); err != nil {
			return err
		}
	}
	return nil
}

// complete sends what is missing of a ping that was sent in part.
func (s *stream) complete() error {
	if half := int(s.sent % int64(len(ping))); half > 0 {
		return s.send(len(ping)-half, s.l.now())
	}
	return nil
}

// endAndDrain ends our side, and expects what is owed and then EOF.
func (s *stream) endAndDrain() error {
	if err := s.c.CloseWrite(); err != nil {
		return s.lost("end our side", err)
	}
	s.heard = s.l.now()
	for {
		err := s.readPatiently(s.small[:], "end of the answers after ours")
		if errors.Is(err, io.EOF) && s.got == s.owed {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
