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

// CounterBits is how many bits of an ID are the counter.
const CounterBits = 40

// MakeID joins a run's number and a counter. Both have to fit their bits.
func MakeID(run int, n uint64) ID { return ID(uint64(run)<<CounterBits | n&(1<<CounterBits-1)) }

// Run is the number of the run that opened the session.
func (id ID) Run() int { return int(id >> CounterBits) }

// N is the session's number within the run that opened it.
func (id ID) N() uint64 { return uint64(id) & (1<<CounterBits - 1) }

func (id ID) String() string {
	return strconv.FormatInt(int64(id.Run()), 10) + "-" + strconv.FormatUint(id.N(), 10)
}

// MarshalText writes what String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes, as [ParseID] does.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// ParseID reads what String writes, and nothing else: no sign, no leading zero.
func ParseID(s string) (ID, error) {
	run, n, ok := strings.Cut(s, "-")
	if !ok {
		return 0, fmt.Errorf("session id %q: want RUN-NUMBER", s)
	}
	r, err := Number(run, 64-CounterBits)
	if err != nil {
		return 0, fmt.Errorf("session id %q: run: %w", s, err)
	}
	c, err := Number(n, CounterBits)
	if err != nil {
		return 0, fmt.Errorf("session id %q: number: %w", s, err)
	}
	return MakeID(int(r), c), nil
}

// Number is strconv.ParseUint without the spellings that would not come back the same.
func Number(s string, bits int) (uint64, error) {
	if len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("%q has a leading zero", s)
	}
	return strconv.ParseUint(s, 10, bits)
}
