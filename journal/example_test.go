package journal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"baton/journal"
)

// A run writes its file; afterwards anybody reads it.
func Example() {
	tmp, err := os.MkdirTemp("", "journal")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "journal")

	j, err := journal.Create(dir, journal.Run{Version: "v1.2.0"}, journal.Options{})
	if err != nil {
		panic(err)
	}
	if err := j.Commit(context.Background(), journal.Move{From: "Starting", To: "Serving", Why: "first start"}); err != nil {
		panic(err)
	}
	j.Opened(journal.Session{ID: 1<<40 | 1, Protocol: "ping"})
	j.Closed(1<<40|1, "end of input", 400, 400)
	if err := j.Close(); err != nil {
		panic(err)
	}

	logs, err := journal.ReadAll(dir, nil)
	if err != nil {
		panic(err)
	}
	for _, e := range logs[0].Events {
		fmt.Println(e.Seq, e.Kind)
	}
	c := logs[0].Closed[0]
	fmt.Println(c.ID, c.Reason)
	// Output:
	// 1 started
	// 2 move
	// 3 sealed
	// 1-1 end of input
}
