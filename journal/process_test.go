package journal

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// play is the other process of a test: this test binary, started again.
func play(role, dir string) int {
	j, err := Create(dir, Run{Version: "v9"}, Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	switch role {
	case "victim":
		return victim(j)
	case "filler":
		return filler(j)
	}
	return 2
}

// victim commits an event and a row, says so, and waits to be killed.
func victim(j *Journal) int {
	j.Opened(Session{ID: id(j.Number(), 1), Protocol: "ping"})
	if err := j.Commit(ctx, Move{From: "Starting", To: "Serving", Why: "first start"}); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	return 1
}

// filler writes against the kernel's limit on the size of a file, the nearest thing to a full disk that needs no privilege: first until
// nothing more goes in, then, with the limit lifted, until it does again.
func filler(j *Journal) int {
	signal.Ignore(syscall.SIGXFSZ)
	const limit = 1 << 20
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: old.Max}); err != nil {
		fmt.Println(err)
		return 1
	}
	long := Abort{Reason: strings.Repeat("x", 10_000)}
	committed, refused := 0, 0
	for ; refused < 20; committed++ {
		if err := j.Commit(ctx, long); err != nil {
			if !errors.Is(err, unix.EFBIG) || j.Err() == nil {
				fmt.Println("refused with", err, "while Err says", j.Err())
				return 1
			}
			refused++
			committed--
		}
	}
	j.Record(Fence{PID: 1}) // waits for better times
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := j.Commit(ctx, Fence{PID: 2}); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := j.Close(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(committed)
	return 0
}

func other(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "JOURNAL_TEST_ROLE="+role, "JOURNAL_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// A run that is killed leaves everything that was committed, and a file that says where it ends.
func TestKilledRun(t *testing.T) {
	dir := t.TempDir()
	cmd := other(t, "victim", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		t.Errorf("the other process says %q", line)
	}
	if logs, err := ReadAll(dir, nil); err != nil || len(logs) != 1 || !errors.Is(logs[0].Err, ErrLive) {
		t.Errorf("while it lives: %+v, %v; want ErrLive", logs, err)
	}
	if removed, err := Prune(dir, Limits{Age: 1, Keep: -1}); err != nil || len(removed) != 0 {
		t.Errorf("Prune removed %v of a live run, %v", removed, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	logs, err := ReadAll(dir, nil)
	if err != nil || len(logs) != 1 || logs[0].Err != nil || logs[0].ChainErr != nil {
		t.Fatalf("%+v, %v", logs, err)
	}
	l := logs[0]
	if l.Sealed || l.Live || len(l.Events) != 2 || len(l.Sessions) != 1 {
		t.Errorf("sealed %t, live %t, %v, %d rows", l.Sealed, l.Live, kindsOf(l), len(l.Sessions))
	}
	if end := Replay(logs, nil).Runs[0].End; end != "died after event 2 (move)" {
		t.Errorf("it is said to have %q", end)
	}
}

func TestFileThatMayNotGrow(t *testing.T) {
	dir := t.TempDir()
	out, err := other(t, "filler", dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := Read(dir + "/" + name(1))
	if err != nil || l.ChainErr != nil || !l.Sealed {
		t.Fatalf("%v, %v, sealed %t", err, l.ChainErr, l.Sealed)
	}
	consistent(t, l.File)
	aborts, fences := 0, 0
	for _, e := range l.Events {
		switch e.Data.(type) {
		case Abort:
			aborts++
		case Fence:
			fences++
		}
	}
	if fmt.Sprintln(aborts) != string(out) || aborts < 10 || fences != 2 {
		t.Errorf("%d events in the file, %s were committed; %d fences, want 2", aborts, strings.TrimSpace(string(out)), fences)
	}
}
