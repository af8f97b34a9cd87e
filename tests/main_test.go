package tests

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// A server whose predecessor has exited becomes our child: its exit code is for us to see.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "tests: no orphans will be seen:", err)
	}
	err := build()
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "tests:", err)
	}
	os.RemoveAll(programs.directory)
	os.Exit(code)
}
