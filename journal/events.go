package journal

// Data is what an event says: one of the types of this file. The kinds and fields are the journal's format: docs/journal.md has the table,
// and a test keeps the two equal.
type Data interface {
	Kind() string // the event's name in the file
}

// Roles in a handoff.
const (
	Predecessor = "predecessor" // hands over
	Successor   = "successor"   // receives
)

// Verdicts on sessions whose process has died, and which go on.
const (
	Recalled = "recalled" // taken back by the predecessor
	Rescued  = "rescued"  // kept by the successor
)

// What has happened to a listener.
const (
	Bound     = "bound"     // opened by this run
	Inherited = "inherited" // arrived from the predecessor, the same socket
	Unlisted  = "closed"    // no longer listened on
)

// The life of a run.
type (
	// Started is a file's first event.
	Started struct {
		Run Run `json:"run"`
	}
	// Move is a change of state. It is in the file before it takes effect.
	Move struct {
		From string `json:"from"`
		To   string `json:"to"`
		Why  string `json:"why,omitempty"`
	}
	// Listener says that a listening socket came or went.
	Listener struct {
		URL  string `json:"url"`
		Addr string `json:"addr"` // what it is bound to, where the URL leaves the port open
		How  string `json:"how"`  // Bound, Inherited or Unlisted
	}
	// Sealed is a file's last event: the run has ended on purpose.
	Sealed struct {
		Why string `json:"why,omitempty"`
	}
)

// A handoff, in the order of one that goes well.
type (
	// Handoff begins the story: this event and those after it carry its ID, until EndHandoff.
	Handoff struct {
		ID      string `json:"id"`                // the same on both sides
		Role    string `json:"role"`              // Predecessor or Successor
		Trigger string `json:"trigger,omitempty"` // what asked for it: a signal, a command, a request
		Binary  string `json:"binary,omitempty"`  // what the predecessor starts
		Check   bool   `json:"check,omitempty"`   // a dry run
		PeerRun int    `json:"peer_run,omitempty"`
		PeerPID int    `json:"peer_pid,omitempty"`
	}
	// Hello is what the successor said about itself.
	Hello struct {
		Run       int      `json:"run"`
		PID       int      `json:"pid"`
		Version   string   `json:"version"`
		SHA256    string   `json:"sha256"`              // of its binary
		Wire      []int    `json:"wire,omitempty"`      // versions of the conversation it speaks
		Protocols []string `json:"protocols,omitempty"` // what it can serve, with the state versions it reads
	}
	// Welcome is what the predecessor answered.
	Welcome struct {
		Listeners int `json:"listeners"`
		Sessions  int `json:"sessions"`
	}
	// Lend is one batch of sockets that is about to be sent ahead.
	Lend struct {
		Batch    int `json:"batch"`
		Sessions IDs `json:"sessions"`
	}
	// Offer is one batch of sessions that is frozen and whose states are sent.
	Offer struct {
		Batch    int  `json:"batch"`
		Sessions IDs  `json:"sessions"`
		Back     bool `json:"back,omitempty"` // on the way back, from the successor
	}
	// Take is the receiver's answer.
	Take struct {
		Batch   int       `json:"batch"`
		Count   int       `json:"count"`
		Refused []Refusal `json:"refused,omitempty"`
		Back    bool      `json:"back,omitempty"`
	}
	// Give is the moment from which the receiver serves.
	Give struct {
		Batch int    `json:"batch"`
		Count int    `json:"count"`
		Pause *Pause `json:"pause_us,omitempty"` // as the receiver measured it; nil on the giver's side
		Back  bool   `json:"back,omitempty"`
	}
	// Done is the end of the batches.
	Done struct {
		Moved      int     `json:"moved"`
		Stragglers int     `json:"stragglers"`
		Pause      *Pause  `json:"pause_us,omitempty"`
		TookMS     float64 `json:"took_ms"`  // first lend to DONE
		TotalMS    float64 `json:"total_ms"` // since the handoff began
	}
	// Bye ends probation. It ties the two files: the peer's journal has exactly this event.
	Bye struct {
		PeerSeq  uint64 `json:"peer_seq,omitempty"` // zero: the peer named none
		PeerHead Hash   `json:"peer_head,omitzero"`
	}
)

// A handoff that does not go well.
type (
	// Refused is why this side will not go on.
	Refused struct {
		Reason string `json:"reason"`
	}
	// Abort ends a handoff; both sides go where rule 5 says.
	Abort struct {
		Reason string `json:"reason"`
	}
	// Returned says that a successor has given back what it had.
	Returned struct {
		Moved int `json:"moved"` // sessions
	}
	// Fence is a peer that is about to be killed, so that it cannot touch a socket again.
	Fence struct {
		PID int `json:"pid"`
	}
	// PeerDied is the end of the other process, seen from here.
	PeerDied struct {
		Run int    `json:"run"`
		PID int    `json:"pid"`
		How string `json:"how"` // exit code or signal
	}
	// Unsealed is another run's file that has no end: it died after the event before FromSeq.
	Unsealed struct {
		Run     int    `json:"run"`
		FromSeq uint64 `json:"from_seq"`
	}
	// Verdict says what became of sessions that were in doubt when the other process died.
	Verdict struct {
		Verdict  string `json:"verdict"` // Recalled, Rescued, or "lost with run 7"; those that could not be proved are named by Closed
		Sessions IDs    `json:"sessions"`
		By       string `json:"by,omitempty"` // what proved their positions: the slate, or the state that was offered
	}
	// Closed names a session that ended within a handoff, or was not resumed after one.
	Closed struct {
		Session ID         `json:"session"`
		Reason  string     `json:"reason"`
		Read    uint64     `json:"read"`              // bytes
		Written uint64     `json:"written"`           // bytes
		Witness *Positions `json:"witness,omitempty"` // the kernel's count of the same, where they were compared
	}
)

// What the journal says about itself.
type (
	// Gap stands where events could not be kept while the file could not be written.
	Gap struct {
		Lost uint64 `json:"lost"`
	}
	// Withdrawn takes back an earlier event: its Commit had given up before it was in the file, so it did not happen.
	Withdrawn struct {
		Seq uint64 `json:"seq"`
	}
	// Aside is another run's file that could not be read and now has another name.
	Aside struct {
		File   string `json:"file"`
		As     string `json:"as"`
		Reason string `json:"reason"`
	}
	// Unknown is an event of a kind that this version does not know.
	Unknown struct {
		Name string
		JSON []byte
	}
)

// Pause is how long sessions stood still, frozen to resumed: a distribution in µs.
type Pause struct {
	P50  int64 `json:"p50"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999,omitempty"`
	Max  int64 `json:"max"`
}

// Positions are bytes read from and written to a socket since it was opened.
type Positions struct {
	Read    uint64 `json:"read"`
	Written uint64 `json:"written"`
}

// Refusal is sessions that a receiver did not take, for one reason.
type Refusal struct {
	Sessions IDs    `json:"sessions"`
	Reason   string `json:"reason"`
}

// MarshalJSON writes what was read.
func (u Unknown) MarshalJSON() ([]byte, error) {
	if len(u.JSON) == 0 {
		return []byte("null"), nil
	}
	return u.JSON, nil
}

func (Started) Kind() string   { return "started" }
func (Move) Kind() string      { return "move" }
func (Listener) Kind() string  { return "listener" }
func (Sealed) Kind() string    { return "sealed" }
func (Handoff) Kind() string   { return "handoff" }
func (Hello) Kind() string     { return "hello" }
func (Welcome) Kind() string   { return "welcome" }
func (Lend) Kind() string      { return "lend" }
func (Offer) Kind() string     { return "offer" }
func (Take) Kind() string      { return "take" }
func (Give) Kind() string      { return "give" }
func (Done) Kind() string      { return "done" }
func (Bye) Kind() string       { return "bye" }
func (Refused) Kind() string   { return "refused" }
func (Abort) Kind() string     { return "abort" }
func (Returned) Kind() string  { return "returned" }
func (Fence) Kind() string     { return "fence" }
func (PeerDied) Kind() string  { return "peer_died" }
func (Unsealed) Kind() string  { return "unsealed" }
func (Verdict) Kind() string   { return "verdict" }
func (Closed) Kind() string    { return "closed" }
func (Gap) Kind() string       { return "gap" }
func (Withdrawn) Kind() string { return "withdrawn" }
func (Aside) Kind() string     { return "aside" }
func (u Unknown) Kind() string { return u.Name }
