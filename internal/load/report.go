package load

import (
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Stats are the numbers of a load at one moment.
type Stats struct {
	Open    int   // connections open now
	Dialled int64 // connections opened so far, redialled ones included
	Frames  int64 // pongs received and verified
	Bytes   int64 // of those pongs

	Drops   int64 // connections that ended though the client had not ended them
	Wrong   int64 // bytes that differed or were surplus
	Refused int64 // dials that failed
	Cut     int64 // connections that Stop had no time to check to their end
}

// OK reports whether nothing was lost: no drop, no wrong byte, no refused dial, and every connection checked to its end.
func (s Stats) OK() bool { return s.Drops == 0 && s.Wrong == 0 && s.Refused == 0 && s.Cut == 0 }

// A Report is the outcome of a load.
type Report struct {
	Stats
	Conns    int                     // connections asked for
	Latency  *hdrhistogram.Histogram // ns, of every pong but those of slow connections; may be empty, never nil
	OwnDelay *hdrhistogram.Histogram // ns, by which pings were sent late through the client's own fault; in no latency
	Worst    Second                  // the second with the highest p99; a rest of under half a second at the end does not compete
	Failures []Failure               // the first Config.Failures, in the order they were noticed
}

// A Second is what was felt within one second. A pong belongs to the second in which it arrived.
type Second struct {
	At      time.Duration           // its beginning, since Start was called
	Latency *hdrhistogram.Histogram // ns; may be empty, never nil
}

// A Kind says in which way a connection failed.
type Kind uint8

// The kinds of failure; see the package comment.
const (
	Drop Kind = iota + 1
	Wrong
	Refused
	Cut
)

var kindNames = [...]string{Drop: "drop", Wrong: "wrong", Refused: "refused", Cut: "cut"}

func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MarshalText makes a Kind readable in JSON.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// A Failure tells of one connection what went wrong, and where and when, so that it can be found in the server's log and journal.
type Failure struct {
	At        time.Duration `json:"at_ns"` // since Start was called
	Kind      Kind          `json:"kind"`
	Client    int           `json:"client"`          // its number, from 0
	Behaviour string        `json:"behaviour"`       // as Group.Behaviour
	Local     string        `json:"local,omitempty"` // empty if refused
	Remote    string        `json:"remote"`
	Open      time.Duration `json:"open_ns"` // how long it had been open
	Frames    int64         `json:"frames"`  // pongs it had received
	What      string        `json:"what"`
}

func (f Failure) String() string {
	if f.Kind == Refused {
		return fmt.Sprintf("%8.3fs %s: client %d (%s) to %s: %s", f.At.Seconds(), f.Kind, f.Client, f.Behaviour, f.Remote, f.What)
	}
	return fmt.Sprintf("%8.3fs %s: client %d (%s) %s to %s, open for %.3fs, %d pongs: %s",
		f.At.Seconds(), f.Kind, f.Client, f.Behaviour, f.Local, f.Remote, f.Open.Seconds(), f.Frames, f.What)
}

// A ledger counts failures, and keeps the first ones.
type ledger struct {
	room  int // how many are kept
	mu    sync.Mutex
	total [Cut + 1]int64
	first []Failure
}

// add enters a failure that counts n times.
func (g *ledger) add(f Failure, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total[f.Kind] += n
	if len(g.first) < g.room {
		g.first = append(g.first, f)
	}
}

func (g *ledger) addTo(s *Stats) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Drops, s.Wrong, s.Refused, s.Cut = g.total[Drop], g.total[Wrong], g.total[Refused], g.total[Cut]
}

func (g *ledger) failures() []Failure {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Failure{}, g.first...) // [] in JSON, never null
}
