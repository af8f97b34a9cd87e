package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"baton/conn"
	"baton/conn/ping"
	"baton/handoff"
)

// A server, as its main function has it.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := handoff.Run(ctx, handoff.Config{
		Workspace: "/run/myserver",                  // log, sockets, journal
		Listen:    []string{"ping://:7000"},         // protocol://address
		Protocols: []conn.Protocol{ping.Protocol()}, // yours: see docs/handlers.md
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A server that starts, says that it serves, and is asked to stop.
func ExampleRun() {
	dir, err := os.MkdirTemp("", "baton")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())
	err = handoff.Run(ctx, handoff.Config{
		Workspace:   dir,
		Listen:      []string{"ping://127.0.0.1:0"},
		Protocols:   []conn.Protocol{ping.Protocol()},
		ReadTimeout: 5 * time.Second,
		Ready: func(r handoff.Ready) {
			fmt.Printf("run %d serves %s\n", r.Run, r.Listeners[0].URL)
			stop()
		},
	})
	fmt.Println("ended:", err)
	// Output:
	// run 1 serves ping://127.0.0.1:0
	// ended: <nil>
}

// Asking a running server to hand over to a new program, as server -upgrade does.
func ExampleClient_Upgrade() {
	c := handoff.NewClient("/run/myserver")
	h, err := c.Upgrade(context.Background(), handoff.UpgradeRequest{Binary: "/opt/myserver/v2", By: "deploy"}, func(p handoff.Progress) {
		log.Printf("%s: %d of %d sessions", p.State, p.Moved, p.Of)
	})
	switch {
	case errors.Is(err, handoff.ErrNoServer):
		log.Print("nothing to upgrade")
	case err != nil:
		log.Fatal(err)
	case !h.Succeeded():
		log.Fatalf("run %d goes on: %s", h.From, h.Reason)
	default:
		log.Printf("run %d serves, %d sessions moved, none stood still for more than %d µs", h.To, h.Moved, h.Pause.Max)
	}
}

// What happened in a workspace, for people.
func ExampleReplay() {
	timeline, err := handoff.Replay(context.Background(), "/run/myserver")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(timeline.Text())
}
