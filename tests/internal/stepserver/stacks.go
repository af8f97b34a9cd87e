package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

// tellStacks has the stacks of all goroutines written to a file of the workspace whenever SIGUSR1 comes.
func tellStacks(workspace string) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	path := filepath.Join(workspace, fmt.Sprintf("stacks-%d", os.Getpid()))
	go func() {
		for range asked {
			if err := writeStacks(path); err != nil {
				fmt.Fprintln(os.Stderr, "stepserver: stacks:", err)
			}
		}
	}()
}

// writeStacks writes a file that is whole as soon as it is there.
func writeStacks(path string) error {
	text := make([]byte, 1<<20)
	text = text[:runtime.Stack(text, true)]
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
