package main

import (
	"fmt"
	"os"
	"strings"
)

// peaks is the memory of both sides of a handoff, in bytes: what of each process lies in memory, shared pages of the program included.
type peaks struct {
	before                 uint64 // of the predecessor, just before
	predecessor, successor uint64
	err                    error
}

// begin looks at the predecessor and has the kernel forget its highest so far, where it may.
func (p *peaks) begin(pid int) {
	p.before, p.err = statusField(pid, "VmRSS")
	os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) // proc(5); without it, the peak includes what was before
}

// end looks at both, which are alive: the predecessor for its probation.
func (p *peaks) end(predecessor, successor int) {
	p.predecessor, _ = statusField(predecessor, "VmHWM")
	p.successor, _ = statusField(successor, "VmHWM")
}

// statusField reads a field of /proc/PID/status that is given in kB.
func statusField(pid int, field string) (bytes uint64, err error) {
	return procField(fmt.Sprintf("/proc/%d/status", pid), field)
}

func procField(file, field string) (bytes uint64, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			var kb uint64
			_, err := fmt.Sscan(rest, &kb)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, field)
}
