package journal

import (
	"os"
	"runtime"
	"strings"
	"time"
)

// A Run is one process of the server: whose file this is.
type Run struct {
	Number      int       `json:"number"` // set by Create
	PID         int       `json:"pid"`
	Binary      string    `json:"binary"`
	SHA256      string    `json:"sha256"` // of the binary
	Version     string    `json:"version"`
	Go          string    `json:"go"`
	BootID      string    `json:"boot_id"`     // monotonic times are comparable between runs of one boot
	Predecessor int       `json:"predecessor"` // run that it took over from; 0 = none, or not known yet
	Started     time.Time `json:"started"`
}

// known fills in what a process knows about itself and the caller left zero.
func (r Run) known() Run {
	if r.PID == 0 {
		r.PID = os.Getpid()
	}
	if r.Go == "" {
		r.Go = runtime.Version()
	}
	if r.BootID == "" {
		r.BootID = BootID()
	}
	if r.Started.IsZero() {
		r.Started = time.Now()
	}
	return r
}

// BootID returns the kernel's name for this boot; empty if it does not say.
func BootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it, Replay goes by the wall clock
	return strings.TrimSpace(string(b))
}
