package rival

import (
	"encoding/json"
	"net"
	"runtime"
	"runtime/debug"

	"baton/tests/bench/internal/figure"
	"baton/tests/bench/internal/part"
)

// Kinds of server that a host can be asked to be.
const (
	KindBare     = "conn"     // package conn alone
	KindPlain    = "plain"    // a goroutine for each connection, with 64 bytes
	KindBuffered = "buffered" // the same, with bufio
)

// A Move is what a host is asked to give away.
type Move struct {
	Way  string `json:"way"`
	Path string `json:"path"`
}

// A Moved is how it went, as the giver has seen it.
type Moved struct {
	N    int   `json:"n"`
	Took int64 `json:"took_ns"`
}

// A Got is how it went, as the receiver has.
type Got struct {
	N     int         `json:"n"`
	Pause figure.Dist `json:"pause"`
}

// A Memory is what a process has, in bytes.
type Memory struct {
	Heap  uint64 `json:"heap"`  // live, after a collection
	Stack uint64 `json:"stack"` // in use
}

// MemoryNow collects garbage, gives back to the system what is free, and looks at what is left.
func MemoryNow() Memory {
	debug.FreeOSMemory()
	debug.FreeOSMemory() // finalizers of the first have run
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Memory{m.HeapAlloc, m.StackInuse}
}

// host is a process that serves in one of the ways, or gets what another one served.
type host struct {
	bare     *Bare
	plain    *Plain
	receiver *Receiver
	borrower *net.UnixListener
}

// Handlers are the role of a host.
func Handlers() part.Handlers {
	h := &host{}
	return part.Handlers{
		"listen":  part.Do(h.listen),
		"receive": part.Do(h.receive),
		"give":    part.Do(h.give),
		"lend":    part.Do(h.lend),
		"borrow":  part.Do(h.borrow),
		"got":     func(json.RawMessage) (any, error) { n, pause := h.receiver.Close(); return Got{n, pause}, nil },
		"memory":  func(json.RawMessage) (any, error) { return MemoryNow(), nil },
	}
}

func (h *host) listen(kind string) (any, error) {
	if kind == KindBare {
		b, addr, err := NewBare()
		h.bare = b
		return addr, err
	}
	h.plain = NewPlain(kind == KindBuffered)
	return h.plain.Listen()
}

func (h *host) receive(path string) (_ any, err error) {
	h.plain = NewPlain(false)
	h.receiver, err = h.plain.Receive(path)
	return nil, err
}

func (h *host) give(m Move) (any, error) {
	n := len(h.plain.all())
	took, err := h.plain.Give(m.Way, m.Path)
	return Moved{n, took}, err
}

func (h *host) lend(path string) (any, error) {
	n, took, err := h.bare.LendAll(path)
	return Moved{n, took}, err
}

func (h *host) borrow(path string) (_ any, err error) {
	h.borrower, err = BorrowAll(path)
	return nil, err
}
