// Package session names sessions: the one thing that conn, the journal and the conversation between two runs have to agree on.
package session

import (
	"fmt"
	"strconv"
	"strings"
)

// An ID names a session for as long as it lives, in whichever run that is: the number of the run that opened it in the high 24 bits, a
// counter of that run in the low 40. As text it is "7-1234". Zero is no session.
type ID uint64

const counterBits = 40

// MakeID joins a run's number and a counter. Both have to fit their bits.
func MakeID(run int, n uint64) ID { return ID(uint64(run)<<counterBits | n&(1<<counterBits-1)) }

// Run is the number of the run that opened the session.
func (id ID) Run() int { return int(id >> counterBits) }

// N is the session's number within the run that opened it.
func (id ID) N() uint64 { return uint64(id) & (1<<counterBits - 1) }

func (id ID) String() string { return fmt.Sprintf("%d-%d", id.Run(), id.N()) }

// ParseID reads what String writes.
func ParseID(s string) (ID, error) {
	run, n, ok := strings.Cut(s, "-")
	if !ok {
		return 0, fmt.Errorf("session id %q: want RUN-NUMBER", s)
	}
	r, err := strconv.ParseUint(run, 10, 24)
	if err != nil {
		return 0, fmt.Errorf("session id %q: run: %w", s, err)
	}
	c, err := strconv.ParseUint(n, 10, counterBits)
	if err != nil {
		return 0, fmt.Errorf("session id %q: number: %w", s, err)
	}
	return MakeID(int(r), c), nil
}
