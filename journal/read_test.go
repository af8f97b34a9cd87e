package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// finishedFile makes a sealed file of some size: branch pages, rows, a ring.
func finishedFile(t testing.TB, dir string) string {
	t.Helper()
	j, err := Create(dir, Run{Version: "v1.2.3", PID: 812}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		j.Opened(Session{ID: id(1, i), Protocol: "ping"})
		j.Record(Lend{Batch: i, Sessions: IDs{uint64(id(1, i))}})
	}
	j.settle(1 << 40)
	for i := range 20 {
		j.Closed(uint64(id(1, i)), "end", 1, 2)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return j.Path()
}

// edit changes a finished file behind the journal's back.
func edit(t testing.TB, path string, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenChain(t *testing.T) {
	for _, c := range []struct {
		name   string
		edit   func(b *bbolt.Bucket) error
		events int // that are still believed
		want   string
	}{
		{"changed", func(b *bbolt.Bucket) error {
			return b.Put(key(50), bytes.Replace(b.Get(key(50)), []byte(`"batch":48`), []byte(`"batch":99`), 1))
		}, 50, "at event 51: it names another event before it than event 50"},
		{"dropped", func(b *bbolt.Bucket) error { return b.Delete(key(50)) }, 49, "at event 50: event 51 is at 0000000000000033"},
		{"first dropped", func(b *bbolt.Bucket) error { return b.Delete(key(1)) }, 0, "at event 1: event 2"},
		{"doubled", func(b *bbolt.Bucket) error { return b.Put(key(203), b.Get(key(202))) }, 202, "at event 203: event 202"},
		{"no JSON", func(b *bbolt.Bucket) error { return b.Put(key(50), []byte("{")) }, 49, "at event 50: unexpected end"},
		{"all gone", func(b *bbolt.Bucket) error {
			for n := range 202 {
				if err := b.Delete(key(uint64(n + 1))); err != nil {
					return err
				}
			}
			return nil
		}, 0, "there is no event"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := finishedFile(t, t.TempDir())
			edit(t, path, func(tx *bbolt.Tx) error { return c.edit(tx.Bucket(bucketEvents)) })
			l, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(l.ChainErr, ErrChain) || !strings.Contains(l.ChainErr.Error(), c.want) || len(l.Events) != c.events {
				t.Errorf("after %d events: %v; want %d, %q", len(l.Events), l.ChainErr, c.events, c.want)
			}
			if tl := Replay([]RunLog{l}, nil); len(tl.Problems) == 0 {
				t.Error("replay says that everything agrees")
			}
		})
	}
}

func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	whole, err := os.ReadFile(finishedFile(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	schemaIs := func(v string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(bucketRun).Put(keySchema, []byte(v)) })
		}
	}
	truncate := func(n int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.Truncate(path, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name    string
		damage  func(t *testing.T, path string)
		want    error
		aside   string
		atStart bool // Create sees it at a glance
	}{
		{"newer schema", schemaIs("2"), ErrVersion, name(1) + ".newer", true},
		{"schema of no version", schemaIs("x"), ErrDamaged, name(1) + ".damaged", true},
		{"schema zero", schemaIs("0"), ErrDamaged, name(1) + ".damaged", true},
		{"cut to a byte", truncate(1), ErrDamaged, name(1) + ".damaged", true},
		{"cut to a page", truncate(4096), ErrDamaged, name(1) + ".damaged", true},
		{"cut in half", truncate(int64(len(whole)) / 2 / 4096 * 4096), ErrDamaged, name(1) + ".damaged", true},
		{"not a database", func(t *testing.T, path string) {
			touchFile(t, filepath.Dir(path), name(1), strings.Repeat("Lorem ipsum ", 5000))
		}, ErrDamaged, name(1) + ".damaged", true},
		{"a database of something else", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketRun) })
		}, ErrDamaged, name(1) + ".damaged", true},
		{"without a bucket", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketClosed) })
		}, ErrDamaged, name(1) + ".damaged", false},
		{"a row of nothing", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(bucketSessions).Put(key(1), nil) })
		}, ErrDamaged, name(1) + ".damaged", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := touchFile(t, dir, name(1), string(whole))
			c.damage(t, path)
			before, _ := os.ReadFile(path)

			if _, err := Read(path); !errors.Is(err, c.want) {
				t.Errorf("Read = %v, want %v", err, c.want)
			}
			if !exists(path) {
				t.Fatal("Read has moved the file")
			}

			atStart := t.TempDir()
			touchFile(t, atStart, name(1), string(before))
			j := create(t, atStart, Options{})
			if l := sealed(t, j); c.atStart != exists(filepath.Join(atStart, c.aside)) || c.atStart != (l.Events[1].Kind == "aside") || l.Run.Number != 2 {
				t.Errorf("Create: set aside %t, events %v", exists(filepath.Join(atStart, c.aside)), kindsOf(l))
			}

			for range 2 { // the second time it is found under its new name
				logs, err := ReadAll(dir, nil)
				if err != nil || len(logs) != 1 || !errors.Is(logs[0].Err, c.want) || filepath.Base(logs[0].Aside) != c.aside || logs[0].Run.Number != 1 {
					t.Fatalf("ReadAll: %+v, %v", logs, err)
				}
			}
			after, err := os.ReadFile(filepath.Join(dir, c.aside))
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed on the way: %v", err)
			}
		})
	}
}

// What was set aside once does not give way to the next one of the same name.
func TestSetAsideNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	touchFile(t, dir, name(1)+".damaged", "first")
	touchFile(t, dir, name(1)+".damaged.2", "second")
	path := touchFile(t, dir, name(1), "third")
	a, err := setAside(path, ErrDamaged)
	if err != nil || a.As != name(1)+".damaged.3" {
		t.Fatalf("%+v, %v", a, err)
	}
	for as, want := range map[string]string{".damaged": "first", ".damaged.2": "second", ".damaged.3": "third"} {
		if got, _ := os.ReadFile(filepath.Join(dir, name(1)+as)); string(got) != want {
			t.Errorf("%s holds %q, want %q", as, got, want)
		}
	}
}

// An empty file is a run in the moment of its creation. It is nobody's to judge.
func TestUnbornFile(t *testing.T) {
	dir := t.TempDir()
	path := touchFile(t, dir, name(1), "")
	if _, err := Read(path); !errors.Is(err, ErrUnborn) {
		t.Errorf("Read = %v, want ErrUnborn", err)
	}
	if logs, err := ReadAll(dir, nil); err != nil || len(logs) != 0 {
		t.Errorf("ReadAll = %+v, %v", logs, err)
	}
	create(t, dir, Options{})
	if !exists(path) {
		t.Error("it was moved")
	}
}

func TestReadAllOfLiveRuns(t *testing.T) {
	dir := t.TempDir()
	finishedFile(t, dir)
	j := create(t, dir, Options{})
	j.Record(Move{From: "Starting", To: "Serving"})

	snapshot := func(run int) (io.ReadCloser, error) {
		if run != 2 {
			return nil, fmt.Errorf("asked for run %d", run)
		}
		var b bytes.Buffer
		_, err := j.Snapshot(&b)
		return io.NopCloser(&b), err
	}
	logs, err := ReadAll(dir, snapshot)
	if err != nil || len(logs) != 2 || logs[1].Err != nil {
		t.Fatalf("%v, %+v", err, logs)
	}
	if logs[0].Live || !logs[0].Sealed || !logs[1].Live || len(logs[1].Events) != 2 || logs[1].File != j.Path() {
		t.Errorf("finished: live %t; running: live %t, %v", logs[0].Live, logs[1].Live, kindsOf(logs[1]))
	}

	noAnswer := errors.New("connection refused")
	for what, live := range map[string]func(int) (io.ReadCloser, error){
		"nobody to ask": nil,
		"no answer":     func(int) (io.ReadCloser, error) { return nil, noAnswer },
	} {
		if logs, err := ReadAll(dir, live); err != nil || len(logs) != 2 || !errors.Is(logs[1].Err, ErrLive) || logs[1].Run.Number != 2 {
			t.Errorf("%s: %v, %+v", what, err, logs)
		}
	}
	garbage := func(int) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("404 page not found")), nil }
	if logs, err := ReadAll(dir, garbage); err != nil || !errors.Is(logs[1].Err, ErrDamaged) || logs[1].Aside != "" {
		t.Errorf("garbage for a snapshot: %v, %+v", err, logs[1])
	}

	// It ends between our looking and our asking.
	ending := func(int) (io.ReadCloser, error) { _ = j.Close(); return nil, noAnswer }
	if logs, err := ReadAll(dir, ending); err != nil || logs[1].Err != nil || !logs[1].Sealed || logs[1].Live {
		t.Errorf("a run that ends meanwhile: %v, %+v", err, logs[1].Err)
	}
	if _, err := ReadAll(filepath.Join(dir, "nowhere"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadAll of nothing: %v", err)
	}
}

// Every kind of event survives the file, fields and all.
func TestEventsRoundTrip(t *testing.T) {
	for _, want := range samples() {
		data, err := encodeData(want)
		if err != nil {
			t.Fatal(err)
		}
		b, err := encodeEvent(Event{Seq: 9, Kind: want.Kind(), Prev: Hash{1, 2, 3}, Handoff: "7-1", Mono: 5}, data)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeEvent(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Data); diff != "" || got.Seq != 9 || got.Prev != (Hash{1, 2, 3}) || got.Handoff != "7-1" || got.Mono != 5 {
			t.Errorf("%s: %+v\n%s", want.Kind(), got, diff)
		}
		if text := sentence(want, Predecessor); text == "" || text == want.Kind() {
			t.Errorf("%s has no sentence", want.Kind())
		}
	}
}

// An event of a later version is kept as it is.
func TestUnknownKind(t *testing.T) {
	e, err := decodeEvent([]byte(`{"seq":1,"kind":"teleport","data":{"where":"moon"}}`))
	if err != nil {
		t.Fatal(err)
	}
	u, ok := e.Data.(Unknown)
	if !ok || u.Kind() != "teleport" || sentence(u, "") != `teleport {"where":"moon"}` {
		t.Errorf("%#v", e.Data)
	}
	if b, err := json.Marshal(e); err != nil || !strings.Contains(string(b), `"data":{"where":"moon"}`) {
		t.Errorf("%s, %v", b, err)
	}
}

// Whatever is in an event's place, reading it ends well: with an error, or with an event that has a sentence.
func FuzzEvent(f *testing.F) {
	for _, d := range samples() {
		data, _ := encodeData(d)
		b, _ := encodeEvent(Event{Seq: 1, Kind: d.Kind()}, data)
		f.Add(b)
	}
	f.Add([]byte(`{"kind":"move","data":null}`))
	f.Add([]byte(`{"kind":"move"}`))
	f.Add([]byte(`{"kind":"nobody"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEvent(b)
		if err != nil {
			return
		}
		_ = sentence(e.Data, Successor)
		if _, err := json.Marshal(e); err != nil {
			t.Errorf("%q is read and cannot be written: %v", b, err)
		}
	})
}

// Whatever happens to the bytes of a file, reading it ends with an error or with a log, and never with our end.
func FuzzFile(f *testing.F) {
	whole, err := os.ReadFile(finishedFile(f, f.TempDir()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{0}, uint32(len(whole)))
	for at := uint32(0); at < uint32(len(whole)); at += 1021 {
		f.Add(at, []byte{0xff, 0x00, 0x01}, uint32(len(whole)))
	}
	for page := uint32(2); page < uint32(len(whole))/4096; page++ {
		for _, field := range []uint32{0, 8, 10, 12, 16, 20, 24, 28} { // heads and first elements
			f.Add(page*4096+field, []byte{0x03}, uint32(len(whole)))
		}
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte, size uint32) {
		b := bytes.Clone(whole[:min(int(size), len(whole))])
		if int(at) < len(b) {
			copy(b[at:], change)
		}
		l, err := readStream(bytes.NewReader(b))
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
			t.Errorf("%v is neither ErrDamaged nor ErrVersion", err)
		}
		_ = Replay([]RunLog{l}, nil).Text()
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if sealed, serr := IsSealed(file); err == nil && l.ChainErr == nil && (serr != nil || sealed != l.Sealed) {
			t.Errorf("sealed %v, %v; read as a whole: %v", sealed, serr, l.Sealed)
		}
	})
}

// A file's end can be looked at without reading all of it.
func TestIsSealed(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, Run{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 { // several pages
		j.Record(Move{From: "Serving", To: "Preparing", Why: strings.Repeat("x", i)})
	}
	if _, err := IsSealed(j.Path()); !errors.Is(err, ErrLive) {
		t.Errorf("of a live run: %v, want ErrLive", err)
	}
	died := filepath.Join(dir, "copy")
	f, err := os.Create(died)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := j.Snapshot(f); err != nil {
		t.Fatal(err)
	}
	if sealed, err := IsSealed(died); sealed || err != nil {
		t.Errorf("of a run that has just died: %v, %v", sealed, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if sealed, err := IsSealed(j.Path()); !sealed || err != nil {
		t.Errorf("of a run that has ended on purpose: %v, %v", sealed, err)
	}
	if err := os.Truncate(died, 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := IsSealed(died); !errors.Is(err, ErrDamaged) {
		t.Errorf("of half a file: %v, want ErrDamaged", err)
	}
}
