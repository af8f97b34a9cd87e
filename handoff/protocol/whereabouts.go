package protocol

import "slices"

// whereabouts of a session that the predecessor knows of.
//
//	queued → atHome ⇄ offered → given      and from everywhere but offered: ended
type whereabouts uint8

const (
	unknown whereabouts = iota
	queued              // not lent yet, and served by us
	atHome              // lent, and served by us
	offered             // frozen, its state sent
	given               // the successor's
)

// A register of sessions says where each is, and how many are where.
type register struct {
	where map[ID]whereabouts
	count [given + 1]int
}

func (r *register) put(w whereabouts, ids ...ID) {
	for _, id := range ids {
		r.count[r.where[id]]--
		r.count[w]++
		if r.where[id] = w; w == unknown {
			delete(r.where, id)
		}
	}
}

// at returns the sessions with these whereabouts, in order.
func (r *register) at(w ...whereabouts) []ID {
	var ids []ID
	for id, where := range r.where {
		if slices.Contains(w, where) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// cut takes the first n off a list.
func cut(list *[]ID, n int) []ID {
	n = min(n, len(*list))
	head := (*list)[:n:n]
	*list = (*list)[n:]
	return head
}

// samePeople reports whether a and b together are the same ids as all, each named once.
func samePeople(all, a, b []ID) bool {
	both, want := slices.Concat(a, b), slices.Clone(all)
	slices.Sort(both)
	slices.Sort(want)
	return slices.Equal(both, want)
}

func sortedKeys[V any](m map[ID]V) []ID {
	keys := make([]ID, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
