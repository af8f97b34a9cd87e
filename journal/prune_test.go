package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPrune(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name   string
		limits Limits
		live   int   // a run whose file is locked; 0 = none
		gone   []int // of six files, 1000 bytes each, 6, 5 … 1 days old
	}{
		{"no limits", Limits{}, 0, nil},
		{"by age", Limits{Age: 4*day - time.Hour}, 0, []int{1, 2, 3}},
		{"by age, the newest stay", Limits{Age: time.Hour}, 0, []int{1, 2, 3, 4}},
		{"by age, more stay", Limits{Age: time.Hour, Keep: 5}, 0, []int{1}},
		{"by age, none stays", Limits{Age: time.Hour, Keep: -1}, 0, []int{1, 2, 3, 4, 5, 6}},
		{"by size", Limits{Bytes: 4000}, 0, []int{1, 2}},
		{"by size, just so", Limits{Bytes: 6000}, 0, nil},
		{"by size, the newest stay", Limits{Bytes: 1}, 0, []int{1, 2, 3, 4}},
		{"by both", Limits{Age: 5*day - time.Hour, Bytes: 5000}, 0, []int{1, 2}},
		{"a live one stays", Limits{Age: time.Hour}, 2, []int{1, 3, 4}},
		{"a live one stays and counts", Limits{Bytes: 4000}, 1, []int{2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for n := 1; n <= 6; n++ {
				path := touchFile(t, dir, name(n), string(make([]byte, 1000)))
				old := time.Now().Add(-time.Duration(7-n) * day)
				if err := os.Chtimes(path, old, old); err != nil {
					t.Fatal(err)
				}
			}
			touchFile(t, dir, name(1)+".damaged", "evidence")
			touchFile(t, dir, "notes.txt", "somebody's")
			if c.live != 0 {
				f, err := lock(filepath.Join(dir, name(c.live)), unix.LOCK_EX)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
			}
			removed, err := Prune(dir, c.limits)
			if err != nil {
				t.Fatal(err)
			}
			var gone []int
			for n := 1; n <= 6; n++ {
				path := filepath.Join(dir, name(n))
				if !exists(path) {
					gone = append(gone, n)
				}
				if slices.Contains(removed, path) == exists(path) {
					t.Errorf("%s: reported removed %t, is there %t", path, slices.Contains(removed, path), exists(path))
				}
			}
			if !slices.Equal(gone, c.gone) {
				t.Errorf("gone %v, want %v", gone, c.gone)
			}
			if !exists(filepath.Join(dir, name(1)+".damaged")) || !exists(filepath.Join(dir, "notes.txt")) {
				t.Error("something else was removed")
			}
		})
	}
}

func TestPruneNowhere(t *testing.T) {
	if _, err := Prune(filepath.Join(t.TempDir(), "nowhere"), Limits{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Prune = %v", err)
	}
}

// A run that died while it was being created left an empty file; it goes like the others.
func TestPruneUnborn(t *testing.T) {
	dir := t.TempDir()
	path := touchFile(t, dir, name(1), "")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if removed, err := Prune(dir, Limits{Age: time.Minute, Keep: -1}); err != nil || len(removed) != 1 {
		t.Errorf("removed %v, %v", removed, err)
	}
}
