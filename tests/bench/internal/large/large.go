// Package large drives those parts of a handoff whose cost could grow faster than the number of connections, with as many sessions as no
// machine here has sockets for: the tables by session id, the conversation, and the journal. The code is that of the server; only the
// sockets, and what the kernel does with them, are missing.
package large

import (
	"runtime"
	"runtime/debug"
	"time"

	"baton/conn"
	"baton/internal/session"
)

// A Cost is what each of n sessions costs in one part.
type Cost struct {
	N     int
	Time  float64 // ns each
	Heap  float64 // bytes each, while it is there
	File  float64 // bytes each, on disk
	Steps int64   // what the number was for: messages, commits
}

// ids are those that one run has given to n sessions.
func ids(n int) []conn.ID {
	all := make([]conn.ID, n)
	for i := range all {
		all[i] = session.MakeID(1, uint64(i+1))
	}
	return all
}

// heap is what lives there now, in bytes.
func heap() float64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// Tables fills a table by session id, as package conn, the conversation and the journal have, moves each session from it to another one,
// a batch at a time, and empties that.
func Tables(n int) Cost {
	all := ids(n)
	before := heap()
	began := time.Now()
	from, to := map[conn.ID]*int{}, map[conn.ID]*int{}
	var one int
	for _, id := range all {
		from[id] = &one
	}
	filled := time.Since(began)
	each := (heap() - before) / float64(n)
	began = time.Now()
	for _, id := range all {
		to[id] = from[id]
		delete(from, id)
	}
	for _, id := range all {
		delete(to, id)
	}
	took := filled + time.Since(began)
	runtime.KeepAlive(from)
	return Cost{N: n, Time: float64(took) / float64(n), Heap: each}
}
