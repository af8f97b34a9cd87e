package wire

import (
	"errors"
	"fmt"
	"slices"
)

// check says what is wrong with a message that was decoded, as far as the message alone can tell. What it says about sessions is for the
// machines of package protocol.
func check(m Message) error {
	switch m := m.(type) {
	case *Hello:
		return notNegative(m.Run)
	case *Welcome:
		if len(m.Listeners) > MaxFDs-2 { // the lock and the slate come with them
			return fmt.Errorf("%d listeners", len(m.Listeners))
		}
		return notNegative(m.Run, m.Sessions)
	case *Lend:
		if len(m.IDs) != len(m.Cookies) || len(m.IDs) != len(m.Slots) || len(m.IDs) > MaxFDs {
			return fmt.Errorf("%d ids, %d cookies, %d slots", len(m.IDs), len(m.Cookies), len(m.Slots))
		}
		return errors.Join(notNegative(m.Batch), distinct(m.IDs))
	case *Offer:
		if len(m.IDs) != len(m.States) {
			return fmt.Errorf("%d ids, %d states", len(m.IDs), len(m.States))
		}
		return errors.Join(notNegative(m.Seq), distinct(m.IDs))
	case *Take:
		ids := slices.Clone(m.IDs)
		for _, r := range m.Refused {
			ids = append(ids, r.ID)
		}
		return errors.Join(notNegative(m.Seq), distinct(ids))
	case *Give:
		if len(m.Lates) > len(m.IDs) {
			return fmt.Errorf("%d ids, %d late", len(m.IDs), len(m.Lates))
		}
		return errors.Join(notNegative(m.Seq), distinct(m.IDs))
	case *Closed:
		return distinct(m.IDs)
	case *Done:
		return notNegative(m.Moved, m.Stragglers)
	case *Abort:
		if m.Code == 0 {
			return errors.New("code 0") // others than ours are a later version's
		}
	case *Beat:
		return notNegative(m.N)
	}
	return nil
}

func notNegative(numbers ...int) error {
	if n := slices.Min(numbers); n < 0 {
		return fmt.Errorf("a count or number of %d", n)
	}
	return nil
}

// distinct says whether a session is named twice, or is none.
func distinct(ids []ID) error {
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	for i, id := range sorted {
		if id == 0 {
			return errors.New("session 0")
		}
		if i > 0 && id == sorted[i-1] {
			return fmt.Errorf("session %v is named twice", id)
		}
	}
	return nil
}

// fds is the number of descriptors that belong to a message, beside its payload.
func fds(m Message) int {
	switch m := m.(type) {
	case *Welcome:
		return len(m.Listeners) + 2 // and the workspace's lock, and the slate
	case *Lend:
		return len(m.IDs)
	}
	return 0
}
