package tests

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"baton/internal/load"
)

var (
	chaosHandoffs = flag.Int("chaos.handoffs", 0, "handoffs with a process hit at a random moment; 0 = as many as fit into 20 s")
	chaosSeed     = flag.Uint64("chaos.seed", 0, "0 = another one each time")
)

// A talker is a client that never stops: it sends the stream of pings cut anywhere, and compares every byte that comes back. When its
// connection is lost it says so, and dials again.
type talker struct {
	addr  string
	seed  uint64
	lost  func(loss)
	wrong func(string)
	over  chan struct{}
}

func (k *talker) live() {
	random := rand.New(rand.NewPCG(k.seed, 1))
	for !k.isOver() {
		c, err := tryDial(k.addr)
		if err != nil { // nobody serves; somebody will
			time.Sleep(20 * time.Millisecond)
			continue
		}
		opened := time.Now()
		if err := k.talk(c, random); err != nil {
			k.lost(loss{local: c.LocalAddr().String(), kind: "talking", what: err.Error(), open: time.Since(opened)})
		}
		c.Close()
	}
}

func (k *talker) isOver() bool {
	select {
	case <-k.over:
		return true
	default:
		return false
	}
}

// talk returns nil when it is over, or the connection's end.
func (k *talker) talk(c net.Conn, random *rand.Rand) error {
	var sent, got int
	buf := make([]byte, 4<<10)
	for !k.isOver() || got < sent/4*4 {
		if n := 1 + random.IntN(12); !k.isOver() {
			piece := repeat("ping", 4)[sent%4:][:n]
			if _, err := c.Write([]byte(piece)); err != nil {
				return err
			}
			sent += n
		}
		// Mostly it waits for its answers; at times it lets them pile up, and some are on their way when it strikes.
		for got < sent/4*4 && (k.isOver() || random.IntN(4) > 0) {
			c.SetReadDeadline(time.Now().Add(patience))
			n, err := c.Read(buf)
			for i, b := range buf[:n] {
				if got+i >= sent/4*4 || b != "pong"[(got+i)%4] {
					k.wrong(fmt.Sprintf("%v: byte %d of %d expected is %q", c.LocalAddr(), got+i, sent/4*4, b))
					return nil
				}
			}
			got += n
			if err != nil {
				return err
			}
		}
		if !k.isOver() {
			time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
		}
	}
	c.(*net.TCPConn).CloseWrite()
	return expectEnd(c)
}

// strikes are what is done to whom.
var strikes = []string{"nothing", "kill successor", "kill successor", "kill predecessor", "kill predecessor", "stop successor", "stop predecessor",
	"stop both", "kill both"}

func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("run again with -chaos.seed %d", seed)
	fmt.Fprintf(os.Stderr, "TestChaos: seed %d\n", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSpace(t)
	s.rude = true
	url := "ping://" + freePort(t)
	args := []string{"-listen", url, "-probation", "250ms", "-beat", "300ms", "-answer", "2s", "-hello", "5s", "-exit", "1s"}
	s.startAs(programs.steps, args...)
	addr := strings.TrimPrefix(url, "ping://")

	var mu sync.Mutex
	var losses []loss
	over := make(chan struct{})
	var talking sync.WaitGroup
	for i := range 40 {
		k := &talker{addr: addr, seed: seed + uint64(i), over: over,
			lost: func(l loss) {
				mu.Lock()
				defer mu.Unlock()
				losses = append(losses, l)
			},
			wrong: func(what string) { t.Errorf("wrong byte: %s", what) },
		}
		talking.Go(k.live)
	}
	var quiet []*idler
	counts, lostInAll, began := map[string]int{}, 0, time.Now()
	done := 0
	for ; !t.Failed() && (done < *chaosHandoffs || *chaosHandoffs == 0 && time.Since(began) < 20*time.Second); done++ {
		for len(quiet) < 30 {
			c := &idler{client: dial(t, addr)}
			c.ping(1)
			if len(quiet)%2 == 0 {
				c.send("pin")
				c.owes = "g"
			}
			quiet = append(quiet, c)
		}
		herd := newHerd(t, addr, census{halfClosed: 2, groups: []load.Group{
			{N: 2, Slow: true, Pile: 256 << 10, Pause: 200 * time.Millisecond}, {N: 4, Churn: true, Interval: 20 * time.Millisecond},
		}})
		time.Sleep(150 * time.Millisecond) // that all of them are in the journal
		what := strikes[random.IntN(len(strikes))]
		delay := time.Duration(random.IntN(60_000)) * time.Microsecond
		if random.IntN(3) == 0 { // in probation
			delay = time.Duration(random.IntN(400_000)) * time.Microsecond
		}
		counts[what]++
		pause := time.Duration(random.IntN(1500)) * time.Millisecond
		left := s.hit(what, delay, pause)
		if !strings.HasPrefix(what, "stop") {
			pause = 0
		}
		if left == 0 {
			s.startAfresh(args...)
		}
		stand := quiet[:0]
		for _, c := range quiet {
			if c.stands() {
				stand = append(stand, c)
			} else {
				mu.Lock()
				losses = append(losses, loss{local: c.LocalAddr().String(), kind: "idle", what: c.lost.Error(), open: time.Hour})
				mu.Unlock()
				c.Close()
			}
		}
		quiet = stand
		more, _ := herd.ebb()
		s.awaitSurvivor()
		mu.Lock()
		new := append(losses, more...)
		losses = nil
		mu.Unlock()
		lostInAll += len(new)
		b := s.explain(new, pause)
		b.checkOneServes(t)
		s.checkSockets(s.status().Run)
		if t.Failed() {
			t.Logf("handoff %d: %s after %v; %d lost", done+1, what, delay, len(new))
		}
		s.forget(t, 12)
	}
	close(over)
	talking.Wait()
	for _, c := range quiet {
		c.Close()
	}
	if !t.Failed() {
		waitFor(t, patience, "all sessions have ended", func() bool { return s.status().Sessions == 0 })
	}
	t.Logf("%d handoffs in %v, %d connections lost and named; %v", done, time.Since(began).Round(time.Second), lostInAll, counts)
}

// hit has the server hand over, strikes after a while, continues after another while what it has stopped, and returns who is left; 0 =
// nobody.
func (s *space) hit(what string, delay, pause time.Duration) (survivor int) {
	s.t.Helper()
	first := s.pid()
	up := s.launch(s.command(programs.server, "-w", s.dir, "-upgrade"))
	time.Sleep(delay)
	verb, whom, _ := strings.Cut(what, " ")
	var targets []int
	switch whom {
	case "successor":
		targets = s.others(first)
	case "predecessor":
		targets = slices.DeleteFunc(s.servers(), func(pid int) bool { return pid != first })
	case "both":
		targets = s.servers()
	}
	switch verb {
	case "kill":
		signalAll(syscall.SIGKILL, targets...)
	case "stop":
		signalAll(syscall.SIGSTOP, targets...)
		time.Sleep(pause)
		for _, pid := range targets {
			s.resume(pid)
		}
	}
	up.exit(patience)
	if verb == "kill" {
		for _, pid := range targets {
			s.gone(pid)
		}
	}
	return s.awaitSurvivor()
}

// others are the servers but this one.
func (s *space) others(pid int) []int {
	return slices.DeleteFunc(s.servers(), func(other int) bool { return other == pid })
}

func signalAll(sig syscall.Signal, pids ...int) {
	for _, pid := range pids {
		syscall.Kill(pid, sig)
	}
}

// forget removes journals of long ago, so that reading all of them takes no longer with every handoff.
func (s *space) forget(t *testing.T, keep int) {
	files, _ := filepath.Glob(s.path("journal", "??????.db"))
	for _, f := range files[:max(0, len(files)-keep)] {
		if err := os.Remove(f); err != nil {
			t.Error(err)
		}
	}
	s.procs = s.procs[max(0, len(s.procs)-8):]
}
