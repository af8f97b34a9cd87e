package tests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What surrounds a process, and can be taken from it: room on the journals' disk, leave to write there, descriptors.

// A disk is the file system that a space's journals are on, and nothing else.
type disk struct {
	*space
	fill string // the file that takes all the room
	loop string // an ext4 has a block device; "" = it is a tmpfs
}

// newDisk makes a space whose journals have a disk of their own, of this many bytes. It is unmounted when all processes have ended.
func newDisk(t *testing.T, size int) *disk {
	t.Helper()
	d := newMountable(t)
	d.mount("tmpfs", "tmpfs", fmt.Sprintf("size=%d,mode=0700", size))
	return d
}

// newFragileDisk makes one whose file system can be told that it has found an error, whereupon it is read-only, as ext4 is then.
func newFragileDisk(t *testing.T) *disk {
	t.Helper()
	d := newMountable(t)
	image := filepath.Join(d.base, "image")
	d.must(os.WriteFile(image, nil, 0o600))
	d.must(os.Truncate(image, 16<<20))
	mke2fs, losetup := need(t, "mke2fs", "a disk that fails"), need(t, "losetup", "a disk that fails")
	owner := fmt.Sprintf("root_owner=%d:%d", os.Geteuid(), os.Getegid())
	if out, err := exec.Command(mke2fs, "-q", "-t", "ext4", "-O", "^has_journal", "-E", owner, image).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v %s", err, out)
	}
	out, err := exec.Command(losetup, "--find", "--show", image).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device: %v %s", err, out)
	}
	d.loop = strings.TrimSpace(string(out))
	d.mount(d.loop, "ext4", "errors=remount-ro")
	d.must(os.Chmod(d.path("journal"), 0o700))
	return d
}

func newMountable(t *testing.T) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system for the journal")
	}
	d := &disk{}
	t.Cleanup(func() { // after the space's own, which ends the processes
		for unix.Unmount(d.path("journal"), unix.MNT_DETACH) == nil {
		}
		if d.loop != "" {
			if out, err := exec.Command("losetup", "--detach", d.loop).CombinedOutput(); err != nil {
				t.Errorf("%s is left over: %v %s", d.loop, err, out)
			}
		}
		os.RemoveAll(d.base)
	})
	d.space = newSpace(t)
	d.fill = d.path("journal", "fill")
	d.must(os.Mkdir(d.dir, 0o700))
	d.must(os.Mkdir(d.path("journal"), 0o700))
	return d
}

func (d *disk) mount(device, kind, options string) {
	d.t.Helper()
	err := unix.Mount(device, d.path("journal"), kind, 0, options)
	if errors.Is(err, unix.EPERM) {
		d.t.Skipf("this root may not mount a %s: %v", kind, err)
	}
	d.must(err)
}

func (d *disk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// fillUp leaves not a byte.
func (d *disk) fillUp() {
	d.t.Helper()
	f, err := os.OpenFile(d.fill, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	d.must(err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		d.t.Fatal(err)
	}
}

func (d *disk) makeRoom() { d.must(os.Remove(d.fill)) }

// breakDown has the file system find an error.
func (d *disk) breakDown() {
	d.t.Helper()
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(d.loop), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("1"), 0); err != nil {
		d.t.Skipf("ext4 cannot be told to fail: %v", err)
	}
}

// awaitTrouble dials until the serving run's journal cannot take any more; it may have room in its file for a while. Those who dialled stay.
func (d *disk) awaitTrouble(addr, what string) (late []*client) {
	d.t.Helper()
	waitFor(d.t, patience, "the journal is in trouble: "+what, func() bool {
		for range 30 {
			c := dial(d.t, addr)
			c.ping(1)
			late = append(late, c)
		}
		st, err := d.tryStatus()
		return err == nil && strings.Contains(st.Journal, what)
	})
	return late
}

func (d *disk) awaitWell() {
	d.t.Helper()
	waitFor(d.t, patience, "the journal is well again", func() bool { return d.status().Journal == "ok" })
}

// openLimit changes how many files a live process may have open, and returns what it was.
func openLimit(t *testing.T, pid int, most uint64) uint64 {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	return old.Cur
}

func openNow(t *testing.T, pid int) uint64 {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return uint64(len(entries))
}

// checkAnswer fails the test if one of those who dialled late has no answer.
func checkAnswer(t *testing.T, clients []*client) {
	t.Helper()
	for _, c := range clients {
		c.ping(1)
	}
}

// awaitRun waits until this run serves, found by its name.
func (s *space) awaitRun(run int) {
	s.t.Helper()
	waitFor(s.t, patience, fmt.Sprintf("run %d serves", run), func() bool {
		st, err := s.tryStatus()
		return err == nil && st.Run == run && st.State == "Serving"
	})
}

// wantNoUpgrade checks that an upgrade was rolled back, and says why.
func wantNoUpgrade(t *testing.T, r result, words ...string) {
	t.Helper()
	for _, w := range append(words, "goes on serving\nreason: ") {
		if r.code != 3 || !strings.Contains(r.stdout, w) {
			t.Errorf("exit %d, want 3 and %q: stdout %q, stderr %q", r.code, w, r.stdout, r.stderr)
		}
	}
}
