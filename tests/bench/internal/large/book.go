package large

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"baton/conn"
	"baton/journal"
)

// Book has a journal written of n sessions that are opened and then handed over, as the predecessor writes it, in a directory of its own
// within dir.
func Book(dir string, n int) (c Cost, replay time.Duration, err error) {
	if dir, err = os.MkdirTemp(dir, "j"); err != nil {
		return c, 0, err
	}
	defer os.RemoveAll(dir)
	all := ids(n)
	began := time.Now()
	j, err := journal.Create(dir, journal.Run{Version: "bench"}, journal.Options{Close: 10 * time.Minute, Hung: time.Minute})
	if err != nil {
		return c, 0, err
	}
	err = write(j, all, &c)
	if closing := j.Close(); err == nil {
		err = closing
	}
	took := time.Since(began)
	if err != nil {
		return c, 0, err
	}
	c.N, c.Time = n, float64(took)/float64(n)
	file := filepath.Join(dir, journal.FileName(1))
	fi, err := os.Stat(file)
	if err != nil {
		return c, 0, err
	}
	c.File = float64(fi.Size()) / float64(n)
	began = time.Now()
	l, err := journal.Read(file)
	if err == nil && len(l.Sessions) != n {
		err = fmt.Errorf("%d sessions of %d are in the journal", len(l.Sessions), n)
	}
	return c, time.Since(began), err
}

// batch is how many sessions are lent, and a quarter of it about as many as are offered, together.
const batch = 252

func write(j *journal.Journal, all []conn.ID, c *Cost) error {
	peer := netip.MustParseAddrPort("127.0.0.1:40000")
	number := 0
	for some := range slices.Chunk(all, 4*batch) {
		for _, id := range some {
			j.Opened(journal.Session{ID: id, Protocol: "ping", Peer: peer})
		}
		// As many as come within a group commit; a million at once would be something else.
		if err := j.Commit(context.Background(), journal.Listener{URL: "ping://:7000", How: journal.Bound}); err != nil {
			return err
		}
	}
	j.Record(journal.Handoff{ID: "large", Role: journal.Predecessor})
	for some := range slices.Chunk(all, batch) {
		number++
		if err := j.Commit(context.Background(), journal.Lend{Batch: number, Sessions: journal.IDsOf(some)}); err != nil {
			return err
		}
		c.Steps++
		j.Place(journal.Lent, raw(some)...)
		for few := range slices.Chunk(some, batch/4+1) {
			j.Record(journal.Offer{Batch: number, Sessions: journal.IDsOf(few)})
			j.Place(journal.Offered, raw(few)...)
			j.Record(journal.Take{Batch: number, Count: len(few)})
			j.Record(journal.Give{Batch: number, Count: len(few)})
			j.Place(journal.Given, raw(few)...)
		}
	}
	j.Record(journal.Done{Moved: len(all)})
	return nil
}

func raw(some []conn.ID) []uint64 { return journal.IDsOf(some) }
