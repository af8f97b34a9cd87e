package journal

import "time"

// A Timeline is what the runs of a directory say together: the newest handoff from both sides, every run in a line, and whether it all
// agrees. It has a JSON form, and a text for people (see Text).
type Timeline struct {
	Handoff *Story    `json:"handoff,omitempty"` // the newest; nil = there was none
	Runs    []RunLine `json:"runs"`              // oldest first

	Checked  Checked  `json:"checked"`
	Problems []string `json:"problems"` // what does not add up, or is missing; empty = everything agrees
}

// Checked counts what Replay went through.
type Checked struct {
	Runs   int `json:"runs"`   // files whose chain was followed
	Events int `json:"events"` // in them
	Moves  int `json:"moves"`  // driven through the state machine again
	Links  int `json:"links"`  // words of one file about another's that were looked up there
}

// What became of a handoff.
const (
	ResultDone        = "done"
	ResultRolledBack  = "rolled back"  // the predecessor serves on
	ResultCheckPassed = "check passed" // a dry run: it would have worked
	ResultCheckFailed = "check failed" // a dry run: it would not
	ResultPeerDied    = "peer died"    // one side's end decided it
	ResultUnderWay    = "under way"    // a side is still at it
	ResultUnfinished  = "unfinished"   // nobody is at it any more, and nobody says how it ended
)

// A Story is one handoff, told by both sides.
type Story struct {
	ID      string    `json:"id"`
	Began   time.Time `json:"began"`
	Trigger string    `json:"trigger"`
	Binary  string    `json:"binary,omitempty"` // what was started
	Check   bool      `json:"check,omitempty"`  // a dry run

	Predecessor Side `json:"predecessor"`
	Successor   Side `json:"successor"` // Run 0: it never said who it was

	Result string `json:"result"`           // one of the Result constants
	Reason string `json:"reason,omitempty"` // why, if not done

	Moved      int     `json:"moved"`
	Stragglers int     `json:"stragglers"`
	Pause      *Pause  `json:"pause_us,omitempty"`
	TookMS     float64 `json:"took_ms"`
	TotalMS    float64 `json:"total_ms"`

	Batches []Batch `json:"batches"`
	Lines   []Line  `json:"lines"`
}

// A Side is one of the two processes of a handoff.
type Side struct {
	Run     int    `json:"run"`
	PID     int    `json:"pid"`
	Version string `json:"version,omitempty"`
}

// A Batch is sessions that moved together.
type Batch struct {
	Batch   int    `json:"batch"`
	Offered int    `json:"offered"`
	Taken   int    `json:"taken"`
	Refused int    `json:"refused"`
	Given   int    `json:"given"`
	Pause   *Pause `json:"pause_us,omitempty"` // as the receiver measured it
}

// A Line is one event of a story.
type Line struct {
	AtUS int64  `json:"at_us"` // since the story began
	Run  int    `json:"run"`
	Role string `json:"role"` // Predecessor or Successor
	Text string `json:"text"`
	Event
}

// A RunLine is one run in short.
type RunLine struct {
	Run     int        `json:"run"`
	PID     int        `json:"pid"`
	Version string     `json:"version"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"` // of the last event, if the run is over
	State   string     `json:"state"`           // where the last move led
	End     string     `json:"end"`             // for people: sealed, running, died, unreadable, and why

	Events   int            `json:"events"`
	Counters Counters       `json:"counters"`
	Sessions map[string]int `json:"sessions"` // rows by place

	lasted time.Duration // by the monotonic clock
}
