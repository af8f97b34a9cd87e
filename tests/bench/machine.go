package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"baton/tests/bench/internal/figure"

	"golang.org/x/sys/unix"
)

// A machine is where and when it was measured.
type machine struct {
	CPU     string    `json:"cpu"`
	Cores   int       `json:"cores"`
	Memory  float64   `json:"memory_gib"`
	Kernel  string    `json:"kernel"`
	Go      string    `json:"go"`
	Server  string    `json:"server"` // what -version says
	Files   uint64    `json:"files"`  // that a process may open
	Started time.Time `json:"started"`

	Busy figure.Spread `json:"busy"` // share of the processors that others used, before each turn
}

func thisMachine(ctx context.Context, server string) machine {
	m := machine{CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version(), Started: time.Now().UTC().Truncate(time.Second)}
	if kb, err := procField("/proc/meminfo", "MemTotal"); err == nil {
		m.Memory = float64(kb) / (1 << 30)
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		m.Files = limit.Cur
	}
	if out, err := exec.CommandContext(ctx, server, "-version").Output(); err == nil {
		m.Server = strings.TrimSpace(string(out))
	}
	return m
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// busy is the share of all processors that was used within a time in which we use none.
func busy(ctx context.Context, d time.Duration) float64 {
	used, all := cpuTimes()
	if sleep(ctx, d) != nil {
		return 0
	}
	used2, all2 := cpuTimes()
	if all2 == all {
		return 0
	}
	return float64(used2-used) / float64(all2-all)
}

// cpuTimes reads the first line of /proc/stat: user, nice, system, idle, iowait and so on, in ticks.
func cpuTimes() (used, all uint64) {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			continue // "cpu"
		}
		all += n
		if i != 4 && i != 5 { // idle, iowait
			used += n
		}
	}
	return used, all
}

// cpuOf is the processor time that a process has used so far, in seconds: the first field of each thread's schedstat, which is exact, where
// that of /proc/PID/stat has 10 ms. Threads that have ended do not count; those of a Go program rarely do.
func cpuOf(pid int) (seconds float64, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("process %d is not there, or the kernel has no schedstat", pid)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // this thread has ended
		}
		var ns float64
		if _, err := fmt.Sscan(string(data), &ns); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		seconds += ns / 1e9
	}
	return seconds, err
}

// cpuOfAll adds up several.
func cpuOfAll(pids ...int) (seconds float64, err error) {
	for _, pid := range pids {
		s, e := cpuOf(pid)
		seconds, err = seconds+s, errors.Join(err, e)
	}
	return seconds, err
}
