package conn

import (
	"errors"
	"fmt"
	"slices"
)

// A Handler speaks one protocol on one session. What the session has to remember between frames are the handler's own fields.
//
// Serve is called when input has been read, on one goroutine at a time. It consumes whole frames with Peek and Discard, answers with
// Write, and returns:
//   - [ErrMore], as Peek gives it: call again when more input is here, or when the peer has taken more of the output. What was not
//     discarded stays.
//   - nil: if something was consumed and input is left, Serve is called again at once; otherwise as ErrMore.
//   - any other error: the session ends, with this error as its reason, after the output so far has been sent. io.EOF, as Peek gives
//     it when the peer has ended its stream between frames, is the ordinary end.
//
// When the peer has ended its stream, Serve is called once more with what is left. A handler that then returns nil keeps the other
// direction open, and may go on writing until Close.
//
// Consume a frame in one go: a header discarded before its body is here is forgotten.
type Handler interface {
	Serve(c *Conn) error
}

// Stateful is a Handler with something to remember. Save is called when the session is frozen for a move, and during a handoff after each
// call of Serve, for the process that may have to go on with it; so it should be quick, and small (what is over about 200 bytes is only
// safe once it has moved). It must not change anything. Load is called on a fresh handler in the process that takes the session. The version
// is one of the protocol's; a state is only ever loaded with the version it was saved with. Neither runs beside Serve.
type Stateful interface {
	Handler
	Save(version int) ([]byte, error)
	Load(version int, state []byte) error
}

// A Protocol makes handlers and says how they are to be run. It is not modified after it has been given to New.
type Protocol struct {
	Name     string         // as in the listener's URL
	New      func() Handler // called once for each session; must not block
	MaxFrame int            // bytes; Peek refuses more; 0 = 64 KiB
	Blocking bool           // Serve may block: it gets a goroutine of its own while it runs
	Reads    []int          // state versions that Load understands; nil = {1}
	Writes   []int          // state versions that Save can write, the preferred one first; nil = {1}
}

var (
	// ErrMore is what Peek returns when the frame cannot be had yet, and what Serve then returns.
	ErrMore = errors.New("conn: more input needed")
	// ErrTooLong ends a session whose frame is longer than the protocol's MaxFrame.
	ErrTooLong = errors.New("conn: frame too long")
	// ErrBehind is what Write returns, having accepted nothing, when the peer is so far behind that the output's hard limit is reached.
	ErrBehind = errors.New("conn: peer is too far behind")
	// ErrMoved is what Write returns, having accepted nothing, when the session is served by another process now.
	ErrMoved = errors.New("conn: session has moved to another process")
	// ErrClosed is what Write returns when the session has ended, or is ending.
	ErrClosed = errors.New("conn: session is closed")
	// ErrReadTimeout and ErrWriteTimeout end a session whose peer sent, or took, nothing for too long.
	ErrReadTimeout  = errors.New("conn: nothing received within the read timeout")
	ErrWriteTimeout = errors.New("conn: nothing taken within the write timeout")
	// ErrPanic ends a session whose handler panicked.
	ErrPanic = errors.New("conn: handler panicked")
	// ErrStopped ends a session because its server stops, and is what a server says that was closed.
	ErrStopped = errors.New("conn: server stopped")
)

const defaultMaxFrame = 64 << 10

func (p *Protocol) complete() (*Protocol, error) {
	if p.Name == "" || p.New == nil {
		return nil, fmt.Errorf("conn: protocol %q: Name and New are needed", p.Name)
	}
	q := *p
	if q.MaxFrame <= 0 {
		q.MaxFrame = defaultMaxFrame
	}
	if q.Reads == nil {
		q.Reads = []int{1}
	}
	if q.Writes == nil {
		q.Writes = []int{1}
	}
	return &q, nil
}

// newHandler calls New, and reports ErrPanic if it panics.
func (p *Protocol) newHandler() (h Handler, err error) {
	defer recoverAs(&err)
	return p.New(), nil
}

// recoverAs, deferred, makes an error of a panic of a handler. It does not tell the value, which could hold payload.
func recoverAs(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("%w: %T", ErrPanic, v)
	}
}

// pick chooses the state version to write for a reader of these versions.
func (p *Protocol) pick(reads []int) (int, bool) {
	for _, v := range p.Writes {
		if slices.Contains(reads, v) {
			return v, true
		}
	}
	return 0, false
}
