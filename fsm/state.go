package fsm

// A State is a step in the life of one run of the server.
//
//	    ┌──────────── first start ───────────┐
//	    │                                    ▼
//	Starting ─── successor ──▶ Adopting ──▶ Serving ◀──────────────────────┐
//	    │                         │          │   │                         │
//	    │                         │   upgrade│   │stop                     │ the way back
//	    │                         │          ▼   │                         │
//	    │                         │      Preparing ────────────────────────┤
//	    │                         │          │   │                         │
//	    │                         │          ▼   │                         │
//	    │                         │     Transferring ──────────────────────┤
//	    │                         │          │   │                         │
//	    │                         │          ▼   ▼                         │
//	    │                         │        Draining ───────────────────────┘
//	    │                         │          │
//	    └────────────────────────▶└──────────┴──▶ Exited
type State string

// The states, in the order of a life that goes well.
const (
	// Starting: flags are read, the run's number and journal are made, a predecessor is looked for.
	Starting State = "Starting"
	// Adopting: a successor whose listeners and sessions are arriving.
	Adopting State = "Adopting"
	// Serving: accepts and serves.
	Serving State = "Serving"
	// Preparing: a predecessor that still serves everything; its successor is started and must report ready.
	Preparing State = "Preparing"
	// Transferring: a predecessor whose batches are moving; it still accepts.
	Transferring State = "Transferring"
	// Draining: the successor serves, stragglers finish here and copies of sockets are kept for recall; or a plain stop is flushing.
	Draining State = "Draining"
	// Exited: nothing is left but the exit code.
	Exited State = "Exited"
)

// States lists every state, in the order of a life that goes well.
func States() []State {
	return []State{Starting, Adopting, Serving, Preparing, Transferring, Draining, Exited}
}

// Meaning says in a few words what being in s means; it is empty for a string that is no state.
func (s State) Meaning() string {
	switch s {
	case Starting:
		return "flags are read, the run's number and journal are made, a predecessor is looked for"
	case Adopting:
		return "a successor whose listeners and sessions are arriving"
	case Serving:
		return "accepts and serves"
	case Preparing:
		return "a predecessor that still serves everything; its successor is started and must report ready"
	case Transferring:
		return "a predecessor whose batches are moving; it still accepts"
	case Draining:
		return "the successor serves, stragglers finish here and copies of sockets are kept for recall; or a plain stop is flushing"
	case Exited:
		return "nothing is left but the exit code"
	}
	return ""
}
