package journal

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func benchJournal(b *testing.B, opt Options) *Journal {
	b.Helper()
	j, err := Create(b.TempDir(), Run{}, opt)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := j.Close(); err != nil {
			b.Error(err)
		}
	})
	return j
}

var benchPeer = netip.MustParseAddrPort("192.0.2.1:4711")

// A session that comes and goes, as the accept path sees it; the commits go on beside it.
func BenchmarkOpenedClosed(b *testing.B) {
	j := benchJournal(b, Options{})
	b.ReportAllocs()
	opened := time.Now()
	n := 0
	for b.Loop() {
		n++
		id := id(1, n)
		j.Opened(Session{ID: id, Peer: benchPeer, Protocol: "ping", Opened: opened})
		j.Closed(uint64(id), "end of input", 1000, 1000)
	}
}

// A session that stays.
func BenchmarkOpened(b *testing.B) {
	j := benchJournal(b, Options{})
	b.ReportAllocs()
	opened := time.Now()
	n := 0
	for b.Loop() {
		n++
		j.Opened(Session{ID: id(1, n%15_000), Peer: benchPeer, Protocol: "ping", Opened: opened})
	}
}

// From the intent to the answer, beside as many rows as there are live sessions.
func BenchmarkIntend(b *testing.B) {
	for _, rows := range []int{0, 15_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			j := benchJournal(b, Options{})
			for i := range rows {
				j.Opened(Session{ID: id(1, i), Peer: benchPeer, Protocol: "ping"})
			}
			j.settle(time.Minute)
			sessions := make(IDs, 252)
			for i := range sessions {
				sessions[i] = uint64(id(1, i))
			}
			b.ReportAllocs()
			var took []time.Duration
			answer := make(chan error, 1)
			for b.Loop() {
				start := time.Now()
				j.Intend(Lend{Batch: 1, Sessions: sessions}, func(err error) { answer <- err })
				if err := <-answer; err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			for _, q := range []float64{0.5, 0.99, 0.999, 1} {
				b.ReportMetric(float64(took[int(q*float64(len(took)-1))].Microseconds()), fmt.Sprintf("µs-p%g", 100*q))
			}
		})
	}
}

// A handoff of 15,000 sessions, as the journals of both sides see it: per session, from the first word to all of them in the file.
func BenchmarkHandoff(b *testing.B) {
	const n, lend, offer = 15_000, 252, 16
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = uint64(id(1, i))
	}
	perSession := func(b *testing.B) { b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/session") }
	b.Run("predecessor", func(b *testing.B) {
		j := benchJournal(b, Options{})
		for _, i := range ids {
			j.Opened(Session{ID: ID(i), Peer: benchPeer, Protocol: "ping"})
		}
		j.settle(time.Minute)
		b.ReportAllocs()
		answer := make(chan error, 1)
		for b.Loop() {
			for batch := range slices.Chunk(ids, lend) {
				j.Intend(Lend{Sessions: batch}, func(err error) { answer <- err })
				if err := <-answer; err != nil {
					b.Fatal(err)
				}
				j.Place(Lent, batch...)
				for some := range slices.Chunk(batch, offer) {
					j.Record(Offer{Sessions: some})
					j.Record(Take{Count: len(some)})
					j.Place(Given, some...)
				}
			}
			j.settle(time.Minute)
		}
		perSession(b)
	})
	b.Run("successor", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			j := benchJournal(b, Options{})
			b.StartTimer()
			for batch := range slices.Chunk(ids, offer) {
				for _, i := range batch {
					j.Opened(Session{ID: ID(i), Place: Taken, Peer: benchPeer, Protocol: "ping", Opened: time.Unix(0, 1e18+int64(i)), Read: 400, Written: 400})
				}
				j.Record(Take{Count: len(batch)})
				j.Place(Own, batch...)
				j.Record(Give{Count: len(batch), Pause: &Pause{}})
			}
			j.settle(time.Minute)
		}
		perSession(b)
	})
}

// A batch of sessions that changes its place, among 15,000: noting it, and committing it.
func BenchmarkPlace252(b *testing.B) {
	j := benchJournal(b, Options{Window: time.Hour})
	for i := range 15_000 {
		j.Opened(Session{ID: id(1, i), Peer: benchPeer, Protocol: "ping"})
	}
	j.settle(time.Minute)
	ids := make([]uint64, 252)
	b.Run("note", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i := range ids {
				ids[i] = uint64(id(1, i))
			}
			j.Place(Lent, ids...)
		}
	})
	b.Run("commit", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			n++
			for i := range ids {
				ids[i] = uint64(id(1, (n*252+i)%15_000))
			}
			j.Place(Place(1+n%2), ids...)
			j.settle(time.Minute)
		}
	})
}
