package journal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

var (
	update = flag.Bool("update", false, "rewrite testdata and docs")
	ctx    = context.Background()
)

// TestMain runs the test binary as somebody else's process where a test asks for that.
func TestMain(m *testing.M) {
	if role := os.Getenv("JOURNAL_TEST_ROLE"); role != "" {
		os.Exit(play(role, os.Getenv("JOURNAL_TEST_DIR")))
	}
	goleak.VerifyTestMain(m)
}

// create makes a journal whose file is checked when the test has ended.
func create(t testing.TB, dir string, opt Options) *Journal {
	t.Helper()
	j, err := Create(dir, Run{Version: "v1.2.3"}, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil && !t.Failed() {
			t.Errorf("Close: %v", err)
		}
		consistent(t, j.Path())
	})
	return j
}

// consistent runs bbolt's own check over a finished file.
func consistent(t testing.TB, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, os.ErrNotExist) {
		return // the test has moved it
	}
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	defer db.Close()
	_ = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
}

// sealed closes j and reads its file.
func sealed(t testing.TB, j *Journal) RunLog {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Read(j.Path())
	if err != nil {
		t.Fatal(err)
	}
	if l.ChainErr != nil {
		t.Fatal(l.ChainErr)
	}
	return l
}

// kindsOf lists the events of a log by kind.
func kindsOf(l RunLog) (out []string) {
	for _, e := range l.Events {
		out = append(out, e.Kind)
	}
	return out
}

// within waits until cond holds.
func within(t testing.TB, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func touchFile(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func id(run, n int) ID { return ID(uint64(run)<<counterBits | uint64(n)) }

func name(run int) string { return fmt.Sprintf("%06d.db", run) }
