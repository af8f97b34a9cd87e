package fsm_test

import (
	"context"
	"errors"
	"fmt"

	"baton/fsm"
)

// A disk that is full refuses an upgrade, and not the way back from one.
func Example() {
	full := false
	m := fsm.New(fsm.Hooks{
		Journal: func(fsm.Move) error {
			if full {
				return errors.New("no space left on device")
			}
			return nil
		},
		Entered: func(mv fsm.Move) { fmt.Println(mv) },
	})
	ctx := context.Background()
	_ = m.Move(ctx, fsm.Serving, "first start")
	_ = m.Move(ctx, fsm.Preparing, "SIGUSR2")
	full = true
	fmt.Println(m.Move(ctx, fsm.Transferring, "successor is ready"))
	_ = m.Move(ctx, fsm.Serving, "journal is full")
	// Output:
	// Starting → Serving: first start
	// Serving → Preparing: SIGUSR2
	// fsm: move refused: Preparing → Transferring: no space left on device
	// Preparing → Serving: journal is full
}
