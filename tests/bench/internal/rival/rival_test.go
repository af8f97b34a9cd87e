package rival_test

import (
	"path/filepath"
	"testing"
	"time"

	"baton/tests/bench/internal/crowd"
	"baton/tests/bench/internal/rival"
)

// What is compared with baton has to work: no connection is lost on the way, and half a frame goes along.
func TestMovesOfAPlainServer(t *testing.T) {
	for _, way := range []string{rival.OnePerMessage, rival.OnePerDial} {
		t.Run(way, func(t *testing.T) {
			const n = 50
			from, to := rival.NewPlain(false), rival.NewPlain(false)
			addr, err := from.Listen()
			if err != nil {
				t.Fatal(err)
			}
			c, err := crowd.Open(addr, n)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			path := filepath.Join(t.TempDir(), "s")
			r, err := to.Receive(path)
			if err != nil {
				t.Fatal(err)
			}
			c.Pace(20 * time.Millisecond)
			time.Sleep(50 * time.Millisecond)
			took, err := from.Give(way, path)
			if err != nil || took <= 0 {
				t.Fatalf("%d ns, %v", took, err)
			}
			time.Sleep(100 * time.Millisecond)
			if report := c.Rest(); report.Err != nil {
				t.Error(report.Err)
			}
			if moved, pause := r.Close(); moved != n || pause.Count != n {
				t.Errorf("%d moved, %d pauses", moved, pause.Count)
			}
		})
	}
}

func TestFloor(t *testing.T) {
	const n = 600 // three messages
	b, addr, err := rival.NewBare()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c, err := crowd.Open(addr, n)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := rival.BorrowAll(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c.Pace(100 * time.Millisecond)
	for range 2 {
		if lent, took, err := b.LendAll(path); err != nil || lent != n || took <= 0 {
			t.Fatalf("%d lent in %d ns, %v", lent, took, err)
		}
	}
	if r := c.Rest(); r.Err != nil {
		t.Error(r.Err)
	}
}
