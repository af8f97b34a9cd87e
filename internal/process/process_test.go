package process_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"baton/internal/process"
)

func TestStop(t *testing.T) {
	for _, c := range []struct{ name, script, says string }{
		{"at once", "echo; exec sleep 60", ""},
		{"after a while", "trap 'sleep 0.3; exit' TERM; echo; while :; do sleep 0.05; done", ""},
		{"never", "trap '' TERM; echo; while :; do sleep 0.05; done", "did not stop within 1s, and was killed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", c.script)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			out.Read(make([]byte, 1)) // it has set its trap
			err = process.Stop(cmd.Process.Pid, time.Second)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want %q", err, c.says)
			}
			ended := make(chan struct{})
			go func() { cmd.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Error("it goes on")
			}
		})
	}
}
