package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"baton/conn"
	"baton/conn/ping"
	"baton/handoff"
	"baton/tests/bench/internal/rival"
)

// serve is the server with one thing added that cmd/server has no use for: on SIGUSR1 it collects garbage and writes what its heap holds
// to a file beside the workspace.
func serve(workspace string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for range asked {
			if err := tellMemory(workspace); err != nil {
				fmt.Fprintln(os.Stderr, "telling of the heap:", err)
			}
		}
	}()
	return handoff.Run(ctx, handoff.Config{
		Workspace: workspace, Listen: []string{"ping://127.0.0.1:0"}, Protocols: []conn.Protocol{ping.Protocol()},
		ReadTimeout: 10 * time.Minute, WriteTimeout: 10 * time.Minute, Timeouts: handoff.Timeouts{Probation: time.Second},
		Ready: func(handoff.Ready) { go fmt.Println("ready") },
	})
}

// memoryFile is where a process tells of its heap.
func memoryFile(workspace string, pid int) string {
	return filepath.Join(filepath.Dir(workspace), fmt.Sprintf("memory-%d", pid))
}

func tellMemory(workspace string) error {
	data, err := json.Marshal(rival.MemoryNow())
	if err != nil {
		return err
	}
	file := memoryFile(workspace, os.Getpid())
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// askMemory is the other end.
func askMemory(ctx context.Context, workspace string, pid int) (m rival.Memory, err error) {
	file := memoryFile(workspace, pid)
	os.Remove(file)
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		return m, err
	}
	for range 500 {
		data, err := os.ReadFile(file)
		if err == nil {
			return m, json.Unmarshal(data, &m)
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return m, err
		}
	}
	return m, fmt.Errorf("process %d does not tell of its heap", pid)
}
