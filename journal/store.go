package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
)

// schema is the version of the format. A file with a higher one is ErrVersion.
const schema = 1

// Buckets, and the keys of bucketRun.
var (
	bucketRun      = []byte("run")
	bucketEvents   = []byte("events")
	bucketSessions = []byte("sessions")
	bucketClosed   = []byte("closed")
	bucketCounters = []byte("counters")

	keySchema = []byte("schema")
	keyRun    = []byte("run")
)

// store is a run's file, open for writing. One goroutine uses it.
type store struct {
	db     *bbolt.DB
	recent int // closed sessions to keep

	seq  uint64 // of the last event in the file
	head Hash   // of its bytes
}

// mapped is the address space that bbolt asks for at the start. While the file is smaller, no growth has to wait for a snapshot's readers.
const mapped = 64 << 20

// openStore opens the empty file at path, and owns it until close.
func openStore(path string, recent int) (*store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         5 * time.Second, // somebody may be looking whether the file is a live one
		NoSync:          true,            // a process that dies leaves its writes to the kernel; see doc.go
		NoGrowSync:      true,            // the same; growing would fsync within a commit
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mapped,
		NoStatistics:    true,
	})
	if err != nil {
		return nil, err
	}
	return &store{db: db, recent: recent}, nil
}

// found writes what every file has, and its first event.
func (s *store) found(r Run) error {
	p := newPending(1, 0)
	data, err := encodeData(Started{Run: r})
	if err != nil {
		return err
	}
	wall, mono := clock()
	p.event(waiting{wall: wall, mono: mono, kind: Started{}.Kind(), data: data})
	p.run = &r
	err = s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketRun, bucketEvents, bucketSessions, bucketClosed, bucketCounters} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketRun).Put(keySchema, strconv.AppendInt(nil, schema, 10))
	})
	if err != nil {
		return err
	}
	return s.put(p)
}

// put writes a batch in one transaction: all of it is in the file afterwards, or nothing.
func (s *store) put(p *pending) error {
	seq, head := s.seq, s.head
	err := s.db.Update(func(tx *bbolt.Tx) (err error) {
		if seq, head, err = putEvents(tx.Bucket(bucketEvents), p, seq, head); err != nil {
			return err
		}
		if err := putRun(tx.Bucket(bucketRun), p.run); err != nil {
			return err
		}
		ended, counts, err := s.putSessions(tx.Bucket(bucketSessions), p)
		if err != nil {
			return err
		}
		if err := putClosed(tx.Bucket(bucketClosed), ended, s.recent); err != nil {
			return err
		}
		return putCounters(tx.Bucket(bucketCounters), counts)
	})
	if err != nil {
		return err
	}
	s.seq, s.head = seq, head
	return nil
}

// putEvents appends the batch's events to the chain, and a Gap if some were lost after them.
func putEvents(b *bbolt.Bucket, p *pending, seq uint64, head Hash) (uint64, Hash, error) {
	b.FillPercent = 1 // keys only ever grow
	for i := range p.events {
		w := &p.events[i]
		seq++
		if err := putEvent(b, *w, seq, &head); err != nil {
			return 0, Hash{}, err
		}
		w.seq = seq
	}
	if p.lost == 0 {
		return seq, head, nil
	}
	data, err := encodeData(Gap{Lost: p.lost})
	if err != nil {
		return 0, Hash{}, err
	}
	wall, mono := clock()
	seq++
	return seq, head, putEvent(b, waiting{wall: wall, mono: mono, kind: Gap{}.Kind(), data: data}, seq, &head)
}

func putEvent(b *bbolt.Bucket, w waiting, seq uint64, head *Hash) error {
	v, err := encodeEvent(Event{Seq: seq, Wall: w.wall, Mono: w.mono, Handoff: w.handoff, Kind: w.kind, Prev: *head}, w.data)
	if err != nil {
		return err
	}
	*head = sha256.Sum256(v)
	return b.Put(key(seq), v)
}

func putRun(b *bbolt.Bucket, r *Run) error {
	if r == nil {
		return nil
	}
	v, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("journal: encode run: %w", err)
	}
	return b.Put(keyRun, v)
}

// putSessions brings the rows up to date. It returns the sessions that have ended, oldest first, and what to add to the counters.
func (s *store) putSessions(b *bbolt.Bucket, p *pending) (ended []ClosedSession, counts Counters, err error) {
	counts = p.counts
	counts.Lost += p.lost
	ended = slices.Clone(p.recent)
	for id, e := range p.ended {
		row := b.Get(key(uint64(id)))
		if row == nil {
			continue // closed twice
		}
		old, err := decodeSession(id, row)
		if err != nil {
			return nil, counts, err
		}
		ended = append(ended, old.closed(e))
		counts.add(e.counts())
		if err := b.Delete(key(uint64(id))); err != nil {
			return nil, counts, err
		}
	}
	slices.SortStableFunc(ended, func(a, b ClosedSession) int { return a.Closed.Compare(b.Closed) })
	if err := putOpened(b, p.opened); err != nil {
		return nil, counts, err
	}
	return ended, counts, putPlaces(b, p.places)
}

// roomyRow is more than most rows take, in bytes.
const roomyRow = 160

func putOpened(b *bbolt.Bucket, opened map[ID]*Session) error {
	// Many rows lie in one piece of memory. Those that were written keep their place when another piece is begun.
	var rows []byte
	for _, id := range slices.Sorted(maps.Keys(opened)) { // in any other order, bbolt moves what it has with every row
		if cap(rows)-len(rows) < roomyRow {
			rows = make([]byte, 0, min(len(opened), 256)*roomyRow)
		}
		at := len(rows)
		var err error
		if rows, err = appendRow(rows, *opened[id]); err != nil {
			return err
		}
		if err := b.Put(key(uint64(id)), rows[at:len(rows):len(rows)]); err != nil {
			return err
		}
	}
	return nil
}

// putPlaces changes the first byte of rows, and nothing else of them.
func putPlaces(b *bbolt.Bucket, places map[ID]Place) error {
	for _, id := range slices.Sorted(maps.Keys(places)) {
		row, place := b.Get(key(uint64(id))), places[id]
		if len(row) == 0 || row[0] == byte(place) {
			continue
		}
		row = slices.Clone(row) // bbolt's memory is not ours to write
		row[0] = byte(place)
		if err := b.Put(key(uint64(id)), row); err != nil {
			return err
		}
	}
	return nil
}

// putClosed appends to the ring of ended sessions and drops its oldest.
func putClosed(b *bbolt.Bucket, ended []ClosedSession, keep int) error {
	ended = ended[max(0, len(ended)-keep):]
	for _, c := range ended {
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		v, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("journal: encode session %s: %w", c.ID, err)
		}
		if err := b.Put(key(n), v); err != nil {
			return err
		}
		if n > uint64(keep) {
			if err := b.Delete(key(n - uint64(keep))); err != nil {
				return err
			}
		}
	}
	return nil
}

// putCounters adds to the file's counters.
func putCounters(b *bbolt.Bucket, add Counters) error {
	if add == (Counters{}) {
		return nil
	}
	sum := getCounters(b)
	sum.add(add)
	for name, n := range sum.fields() {
		if err := b.Put([]byte(name), key(*n)); err != nil {
			return err
		}
	}
	return nil
}

func getCounters(b *bbolt.Bucket) (c Counters) {
	for name, n := range c.fields() {
		if v := b.Get([]byte(name)); len(v) == 8 {
			*n = binary.BigEndian.Uint64(v)
		}
	}
	return c
}

// fields is the counters by their keys.
func (c *Counters) fields() map[string]*uint64 {
	return map[string]*uint64{"opened": &c.Opened, "adopted": &c.Adopted, "closed": &c.Closed,
		"read": &c.Read, "written": &c.Written, "lost": &c.Lost, "refused": &c.Refused}
}

// key is a number as bbolt sorts it.
func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
