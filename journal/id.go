package journal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"baton/internal/session"
)

const counterBits = session.CounterBits

// An ID names a session, in whichever run it lives. As text, here and in the file, it is "7-1234".
type ID = session.ID

// ParseID reads an ID's text, and nothing else: no sign, no leading zero.
func ParseID(s string) (ID, error) { return session.ParseID(s) }

// IDs is a set of session ids. As text it is ranges within a run, ascending: "6-9 7-1..252 7-300".
type IDs []uint64

// IDsOf copies ids of any type whose values are session ids.
func IDsOf[T ~uint64](ids []T) IDs {
	out := make(IDs, len(ids))
	for i, id := range ids {
		out[i] = uint64(id)
	}
	return out
}

func (ids IDs) String() string { b, _ := ids.MarshalText(); return string(b) }

// MarshalText writes the ranges. Order and repetition are not kept.
func (ids IDs) MarshalText() ([]byte, error) {
	sorted := slices.Compact(slices.Sorted(slices.Values(ids)))
	var b []byte
	for len(sorted) > 0 {
		n := rangeLen(sorted)
		if b != nil {
			b = append(b, ' ')
		}
		b = append(b, ID(sorted[0]).String()...)
		if n > 1 {
			b = append(b, ".."...)
			b = strconv.AppendUint(b, sorted[n-1]&(1<<counterBits-1), 10)
		}
		sorted = sorted[n:]
	}
	return b, nil
}

// rangeLen is how many of the leading ids follow each other within one run.
func rangeLen(sorted []uint64) int {
	n := 1
	for n < len(sorted) && sorted[n] == sorted[n-1]+1 && sorted[n]>>counterBits == sorted[0]>>counterBits {
		n++
	}
	return n
}

// maxIDs bounds what one text may unfold to; Linux gives a process no more descriptors, unless told to (fs.nr_open).
const maxIDs = 1 << 20

// UnmarshalText reads what MarshalText writes, and nothing else: ranges ascend and do not touch.
func (ids *IDs) UnmarshalText(text []byte) error {
	var out IDs
	if len(text) == 0 {
		*ids = nil
		return nil
	}
	for field := range strings.SplitSeq(string(text), " ") {
		lo, hi, err := parseRange(field)
		if err != nil {
			return err
		}
		if n := len(out); n > 0 && (lo <= out[n-1] || lo == out[n-1]+1 && lo>>counterBits == out[n-1]>>counterBits) {
			return fmt.Errorf("session ids %q: %s does not ascend", text, field)
		}
		if hi-lo >= maxIDs || len(out)+int(hi-lo) >= maxIDs {
			return fmt.Errorf("session ids: %s makes more than %d", field, maxIDs)
		}
		for id := lo; ; id++ {
			out = append(out, id)
			if id == hi { // not in the loop's head: hi may be the last uint64
				break
			}
		}
	}
	*ids = out
	return nil
}

// parseRange reads "7-300" or "7-1..252".
func parseRange(s string) (lo, hi uint64, err error) {
	first, last, isRange := strings.Cut(s, "..")
	id, err := ParseID(first)
	lo = uint64(id)
	if err != nil || !isRange {
		return lo, lo, err
	}
	n, err := session.Number(last, counterBits)
	if err != nil {
		return 0, 0, fmt.Errorf("session ids %q: %w", s, err)
	}
	if hi = lo>>counterBits<<counterBits | n; hi <= lo {
		return 0, 0, fmt.Errorf("session ids %q: a range has to ascend", s)
	}
	return lo, hi, nil
}
