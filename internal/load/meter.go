package load

import (
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A meter collects latencies and counts from many clients. Clients record into shards, so that they rarely meet; once a second a
// goroutine of the meter empties the shards into that second's histogram, and that into the total. Memory does not grow with time.
type meter struct {
	shards []shard

	stop, stopped chan struct{}

	mu    sync.Mutex // guards what is below
	began time.Duration
	total *hdrhistogram.Histogram
	worst Second
	now   *hdrhistogram.Histogram // the second that is being summed up
	spare *hdrhistogram.Histogram // empty; changes places with a shard's
}

type shard struct {
	mu            sync.Mutex
	latency       *hdrhistogram.Histogram // of the running second
	ownDelay      *hdrhistogram.Histogram // of all time
	frames, bytes int64
	_             [64]byte // keeps neighbours out of this cache line
}

// newHistogram counts nanoseconds from a microsecond to 100 s, to three digits; about 150 KB.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(100*time.Second), 3)
}

func newMeter() *meter {
	m := &meter{
		shards:  make([]shard, runtime.GOMAXPROCS(0)*2),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		total:   newHistogram(),
		now:     newHistogram(),
		spare:   newHistogram(),
	}
	m.worst.Latency = newHistogram()
	for i := range m.shards {
		m.shards[i].latency = newHistogram()
		m.shards[i].ownDelay = newHistogram()
	}
	close(m.stopped) // nothing runs before begin
	return m
}

func (m *meter) shard(i int) *shard { return &m.shards[i%len(m.shards)] }

// answered enters one pong and its latency.
func (s *shard) answered(latency time.Duration) {
	s.mu.Lock()
	record(s.latency, latency)
	s.mu.Unlock()
}

// late enters by how much a ping was sent late although nothing but the client itself was in its way.
func (s *shard) late(delay time.Duration) {
	s.mu.Lock()
	record(s.ownDelay, delay)
	s.mu.Unlock()
}

// record enters d; beyond the histogram's end it counts as the end.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	if h.RecordValue(int64(d)) != nil {
		_ = h.RecordValue(h.HighestTrackableValue())
	}
}

// verified counts bytes of pongs, and the pongs that they completed.
func (s *shard) verified(frames, bytes int64) {
	s.mu.Lock()
	s.frames += frames
	s.bytes += bytes
	s.mu.Unlock()
}

func (m *meter) counts() (frames, bytes int64) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		frames += s.frames
		bytes += s.bytes
		s.mu.Unlock()
	}
	return frames, bytes
}

// begin forgets the latencies of the start, when dials and first answers crowd each other, and sums up every second from now on.
func (m *meter) begin(at time.Duration) {
	m.mu.Lock()
	m.sum()
	m.ownDelays()
	m.began = at
	m.mu.Unlock()
	m.stopped = make(chan struct{})
	go func() {
		defer close(m.stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		start := time.Now()
		for {
			select {
			case <-tick.C:
				m.second(at + time.Since(start))
			case <-m.stop:
				return
			}
		}
	}()
}

// end sums up the last, unfinished second and returns the results, which are the caller's. It is called once.
func (m *meter) end(at time.Duration) (latency, ownDelay *hdrhistogram.Histogram, worst Second) {
	close(m.stop)
	<-m.stopped
	m.second(at)
	return m.total, m.ownDelays(), m.worst
}

// ownDelays empties the shards of their own delays.
func (m *meter) ownDelays() *hdrhistogram.Histogram {
	all := newHistogram()
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		all.Merge(s.ownDelay)
		s.ownDelay.Reset()
		s.mu.Unlock()
	}
	return all
}

// second closes the running second; the next one begins at the given time.
func (m *meter) second(at time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum()
	m.total.Merge(m.now)
	p99 := m.now.ValueAtQuantile(99)
	// The rest of a second at the end holds few answers, and one that was a little late would make it the worst.
	full := at-m.began >= time.Second/2 || m.worst.Latency.TotalCount() == 0
	if full && p99 > m.worst.Latency.ValueAtQuantile(99) {
		m.worst.At = m.began
		m.worst.Latency, m.now = m.now, m.worst.Latency
	}
	m.began = at
}

// sum moves what the shards hold into m.now.
func (m *meter) sum() {
	m.now.Reset()
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		s.latency, m.spare = m.spare, s.latency
		s.mu.Unlock()
		m.now.Merge(m.spare)
		m.spare.Reset()
	}
}
