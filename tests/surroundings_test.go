package tests

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Real processes in surroundings that fail. What a full disk stops is an upgrade, never the serving, the way back or a stop.

const noRoom = "no space left on device; make room there"

// The journals' disk is full before the upgrade: it is refused, in whatever way it is asked for, and works when there is room.
func TestUpgradeWithAFullJournal(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 2<<20)
	d.start("-read-timeout", "1m", "-probation", "300ms")
	addr := d.addr(loopback)
	idle := idlers(t, addr, 30)
	crowd := newCrowd(t, addr, fewOfEach()...)
	d.fillUp()
	late := d.awaitTrouble(addr, noRoom)

	wantNoUpgrade(t, d.run("-upgrade"), noRoom, d.path("journal", "000001.db"))
	wantNoUpgrade(t, d.run("-upgrade", "-check"), noRoom)
	d.signal(d.pid(), syscall.SIGUSR2)
	waitFor(t, patience, "the third is refused as well", func() bool { return strings.Count(d.log(), "handoff is over") == 3 })
	if st := d.status(); st.Run != 1 || st.State != "Serving" || st.LastHandoff == nil || !strings.Contains(st.LastHandoff.Reason, noRoom) {
		t.Errorf("%+v, %+v", st, st.LastHandoff)
	}
	d.replay() // a snapshot is read from memory, and needs no room

	d.makeRoom()
	d.awaitWell()
	h := d.replay().Handoff // what could not be written was kept
	if h == nil || h.Result != "rolled back" || !strings.Contains(h.Reason, noRoom) {
		t.Errorf("the replay tells of %+v", h)
	}
	d.upgrade()
	checkIdlers(t, idle)
	checkAnswer(t, late)
	crowd.check()
	d.alone()
	d.replay()
}

// There is room for the server's journal, and none for its successor's.
func TestSuccessorFindsNoRoomForItsJournal(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 2<<20)
	d.start("-read-timeout", "1m")
	idle := idlers(t, d.addr(loopback), 30)
	d.upgrade() // so that its file has pages to spare
	d.alone()
	d.fillUp()
	wantNoUpgrade(t, d.run("-upgrade"), noRoom)
	checkIdlers(t, idle)
	d.makeRoom()
	d.awaitWell()
	d.upgrade()
	checkIdlers(t, idle)
	d.replay()
}

// The disk becomes full in probation. Both go on, and whoever of them dies is survived by the other.
func TestJournalFillsUpInProbation(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"nobody", "predecessor", "successor"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t, 2<<20)
			d.rude = victim != "nobody"
			probation := map[bool]string{true: "1m", false: "1s"}[d.rude]
			p := d.start("-read-timeout", "1m", "-probation", probation)
			addr := d.addr(loopback)
			idle := idlers(t, addr, 60)
			d.upgrade()
			checkIdlers(t, idle[:30]) // half of them have been touched there
			d.fillUp()
			late := d.awaitTrouble(addr, noRoom)
			run := 2
			switch victim {
			case "nobody":
				if code := p.exit(patience); code != 0 {
					t.Errorf("the predecessor exits %d: %s", code, p.stderr.finish())
				}
			case "predecessor":
				d.kill(p.pid())
				waitFor(t, patience, "the successor has noticed", func() bool { return d.status().Predecessor == 0 })
			case "successor":
				d.kill(d.pid())
				d.awaitRun(1)
				run, late = 1, nil // only the dead had those
			}
			checkIdlers(t, idle)
			checkAnswer(t, late)
			late = append(late, d.awaitTrouble(addr, noRoom)...)
			wantNoUpgrade(t, d.run("-upgrade"), noRoom)

			d.makeRoom()
			d.awaitWell()
			if st := d.status(); st.Run != run || st.State != "Serving" {
				t.Errorf("%+v, want run %d", st, run)
			}
			d.replay()
			d.upgrade()
			checkIdlers(t, idle)
			checkAnswer(t, late)
			d.books().checkOneServes(t)
		})
	}
}

// The disk becomes full while sessions move, and one of the two dies of something else just then, or none does.
func TestJournalFillsUpWhileSessionsMove(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, at string
		idle     int
		dies     bool
	}{
		{"nobody dies", "predecessor/after-lend/1/stop", 1200, false},
		{"the predecessor dies", "predecessor/after-lend/1/stop", 200, true},
		{"the successor dies", "successor/on-give/1/stop", 200, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t, 4<<20)
			d.rude = true
			file := filepath.Join(d.base, "fired")
			p := d.stepServer(file, tt.at, "-probation", "300ms")
			addr := d.stepAddr()
			idle := idlers(t, addr, tt.idle)
			up := d.launch(d.command(programs.server, "-w", d.dir, "-upgrade"))
			victim := d.awaitStep(file)
			d.awaitStopped(victim)
			d.fillUp()
			survivor := 1
			if tt.dies {
				d.kill(victim)
				if victim == p.pid() {
					survivor = 2
				}
			} else {
				d.signal(victim, syscall.SIGCONT)
				if code := up.exit(patience); code != 3 || !strings.Contains(up.stdout.finish(), "no space left on device") {
					t.Errorf("-upgrade exits %d: %s%s", code, up.stdout.finish(), up.stderr.finish())
				}
			}
			d.awaitRun(survivor)
			checkIdlers(t, idle)
			up.exit(patience)
			late := d.awaitTrouble(addr, noRoom)

			d.makeRoom()
			d.awaitWell()
			checkIdlers(t, idle)
			d.replay()
			d.upgrade()
			checkIdlers(t, idle)
			checkAnswer(t, late)
			d.books().checkOneServes(t)
		})
	}
}

// The journals' file system finds an error, and is read-only from then on.
func TestJournalBecomesReadOnly(t *testing.T) {
	t.Parallel()
	const why = "read-only file system; it has to be mounted for writing"
	for _, when := range []string{"before the upgrade", "in probation, and the predecessor dies", "in probation, and the successor dies"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			d := newFragileDisk(t)
			d.rude = strings.Contains(when, "dies")
			p := d.start("-read-timeout", "1m", "-probation", "1m")
			addr := d.addr(loopback)
			idle := idlers(t, addr, 60)
			run := 1
			if d.rude {
				d.upgrade()
				checkIdlers(t, idle[:30])
				run = 2
			}
			d.breakDown()
			late := d.awaitTrouble(addr, why)
			switch {
			case strings.Contains(when, "predecessor dies"):
				d.kill(p.pid())
				waitFor(t, patience, "the successor has noticed", func() bool { return d.status().Predecessor == 0 })
			case strings.Contains(when, "successor dies"):
				d.kill(d.pid())
				d.awaitRun(1)
				run, late = 1, nil
			}
			wantNoUpgrade(t, d.run("-upgrade"), "read-only file system")
			checkIdlers(t, idle)
			checkAnswer(t, late)
			if st := d.status(); st.Run != run || st.State != "Serving" || !strings.Contains(st.Journal, why) {
				t.Errorf("%+v, want run %d", st, run)
			}
			if r := d.run("-replay"); r.code != 0 {
				t.Errorf("-replay exits %d: %s", r.code, r.stderr)
			}

			// A stop is a stop all the same; a start is refused until somebody sees to it.
			d.stop()
			r := d.run("-listen", loopback)
			if r.code != 1 || !strings.Contains(r.stderr, "read-only file system") || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("a start exits %d: %q", r.code, r.stderr)
			}
			d.must(unix.Unmount(d.path("journal"), 0))
			d.must(os.Chmod(d.path("journal"), 0o700))
			d.start()
			dial(t, d.addr(loopback)).ping(1)
			d.upgrade()
		})
	}
}

// The directory is read-only for those who come: the server writes its open file, and its successor cannot make one.
func TestJournalIsReadOnlyForTheSuccessor(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 2<<20)
	d.start("-read-timeout", "1m")
	idle := idlers(t, d.addr(loopback), 30)
	dir := d.path("journal")
	d.must(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	d.must(unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	wantNoUpgrade(t, d.run("-upgrade"), dir+" is not writable: read-only file system")
	checkIdlers(t, idle)
	if st := d.status(); st.Journal != "ok" {
		t.Errorf("%+v", st)
	}
	d.must(unix.Unmount(dir, 0))
	d.upgrade()
	checkIdlers(t, idle)
	d.replay()
}

// The successor's limit of open files is lowered when it has said what it was: it gets neither listeners nor, at last, sockets. What it has
// got by then it returns.
func TestSuccessorRunsOutOfDescriptors(t *testing.T) {
	t.Parallel()
	for name, room := range map[string]uint64{"listeners": 0, "the first batch": 40, "the fifth batch": 4*252 + 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			file := filepath.Join(s.base, "fired")
			s.stepServer(file, "successor/after-greeting/1/stop", "-probation", "300ms")
			idle := idlers(t, s.stepAddr(), 1500)
			before := descriptors(t, s.pid())
			up := s.launch(s.command(programs.server, "-w", s.dir, "-upgrade"))
			next := s.awaitStep(file)
			s.awaitStopped(next)
			old := openLimit(t, next, openNow(t, next)+room)
			t.Logf("%d may open %d files, and not %d", next, openNow(t, next)+room, old)
			s.signal(next, syscall.SIGCONT)
			if code := up.exit(patience); code != 3 || !strings.Contains(up.stdout.finish(), "RLIMIT_NOFILE") {
				t.Errorf("-upgrade exits %d: %s%s", code, up.stdout.finish(), up.stderr.finish())
			}
			checkIdlers(t, idle)
			events := s.eventsOf(1)
			if strings.Contains(events, " fence ") || strings.Contains(events, " returned ") != (room > 252) {
				t.Errorf("the journal tells of a fence, or not of what was returned:\n%s", events)
			}
			checkDescriptors(t, s, before)
			s.upgrade()
			checkIdlers(t, idle)
			s.alone()
			s.replay()
		})
	}
}

// The predecessor has no descriptor left for a successor.
func TestServerRunsOutOfDescriptors(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.start("-read-timeout", "1m")
	idle := idlers(t, s.addr(loopback), 30)
	old := openLimit(t, s.pid(), openNow(t, s.pid()))
	s.signal(s.pid(), syscall.SIGUSR2)
	s.awaitLog("handoff is over", "rolled back", "in this process: raise its limit, RLIMIT_NOFILE")
	checkIdlers(t, idle)
	openLimit(t, s.pid(), old)
	s.upgrade()
	checkIdlers(t, idle)
	s.replay()
}

// A successor that stands still in probation misses its beats: it is ended, and the predecessor has everything back.
func TestSuccessorMissesItsBeats(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.rude = true
	p := s.start("-read-timeout", "1m", "-probation", "1m")
	idle := idlers(t, s.addr(loopback), 300)
	s.upgrade()
	checkIdlers(t, idle[:150])
	next := s.pid()
	s.halt(next)
	s.gone(next)
	s.awaitRun(1)
	if s.pid() != p.pid() {
		t.Errorf("server.pid says %d, want %d", s.pid(), p.pid())
	}
	checkIdlers(t, idle)
	if events := s.eventsOf(1); !strings.Contains(events, " fence ") || !strings.Contains(events, "missed") {
		t.Errorf("the journal does not tell of it: %s", events)
	}
	if h := s.status().LastHandoff; h == nil || h.Result != "recalled" {
		t.Errorf("%+v", h)
	}
	s.upgrade()
	checkIdlers(t, idle)
	s.books().checkOneServes(t)
	s.replay()
}
