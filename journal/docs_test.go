package journal

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// table returns the rows of docs/journal.md's table whose first heading is given: the first two cells of each, without backticks.
func table(t *testing.T, heading string) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../docs/journal.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	inside := false
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "`", "")
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case cells[0] == heading:
			inside = true
		case inside && !strings.HasPrefix(cells[0], "---"):
			if _, twice := rows[cells[0]]; twice {
				t.Errorf("%s: %q stands twice", heading, cells[0])
			}
			rows[cells[0]] = cells[1]
		}
	}
	if len(rows) == 0 {
		t.Fatalf("docs/journal.md has no table that begins with %q", heading)
	}
	return rows
}

// jsonFields lists a struct's JSON names in order.
func jsonFields(v any) string {
	var names []string
	typ := reflect.TypeOf(v)
	for i := range typ.NumField() {
		if name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); name != "-" && name != "" {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

func TestDocsHaveEveryEvent(t *testing.T) {
	want := map[string]string{}
	for kind, d := range kinds {
		want[kind] = jsonFields(d)
	}
	if diff := cmp.Diff(want, table(t, "event")); diff != "" {
		t.Errorf("docs/journal.md (-code +page):\n%s", diff)
	}
}

func TestDocsHaveEveryPart(t *testing.T) {
	for _, c := range []struct {
		heading string
		want    map[string]string
	}{
		{"field of an event", byName(jsonFields(Event{}))},
		{"field of a run", byName(jsonFields(Run{}))},
		{"field of a session", byName(jsonFields(Session{}))},
		{"field of a closed session", byName(jsonFields(ClosedSession{}))},
		{"counter", byName(jsonFields(Counters{}))},
		{"bucket", byName(fmt.Sprintf("%s, %s, %s, %s, %s", bucketRun, bucketEvents, bucketSessions, bucketClosed, bucketCounters))},
	} {
		got := table(t, c.heading)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(c.want)), slices.Sorted(maps.Keys(got))); diff != "" {
			t.Errorf("%s (-code +page):\n%s", c.heading, diff)
		}
	}
	var byByte = map[string]string{}
	for p, name := range places {
		byByte[fmt.Sprint(p)] = name
	}
	if diff := cmp.Diff(byByte, table(t, "place")); diff != "" {
		t.Errorf("places (-code +page):\n%s", diff)
	}
}

func byName(list string) map[string]string {
	m := map[string]string{}
	for _, name := range strings.Split(list, ", ") {
		m[name] = ""
	}
	return m
}

// The names by which counters are stored are those of their JSON.
func TestCountersHaveEveryField(t *testing.T) {
	var c Counters
	if diff := cmp.Diff(slices.Sorted(maps.Keys(byName(jsonFields(c)))), slices.Sorted(maps.Keys(c.fields()))); diff != "" {
		t.Error(diff)
	}
	for i := range reflect.TypeOf(c).NumField() {
		var one, sum Counters
		reflect.ValueOf(&one).Elem().Field(i).SetUint(3)
		sum.add(one)
		sum.add(one)
		if got := reflect.ValueOf(sum).Field(i).Uint(); got != 6 {
			t.Errorf("%s: 3 and 3 make %d", reflect.TypeOf(c).Field(i).Name, got)
		}
	}
}

// samples, on which the round trips rest, leaves no kind and no field out.
func TestSamplesAreComplete(t *testing.T) {
	missing := maps.Clone(kinds)
	for _, d := range samples() {
		delete(missing, d.Kind())
		v := reflect.ValueOf(d)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("the sample of %s leaves %s empty", d.Kind(), v.Type().Field(i).Name)
			}
		}
	}
	for kind := range missing {
		t.Errorf("there is no sample of %s", kind)
	}
}

// The bytes of a file of schema 1, as they were when it was made: if this changes, the schema has.
func TestGoldenBytes(t *testing.T) {
	var b strings.Builder
	var prev Hash
	for i, d := range samples() {
		body, err := encodeData(d)
		if err != nil {
			t.Fatal(err)
		}
		e := Event{Seq: uint64(i + 1), Wall: bootTime, Mono: int64(i), Handoff: "7-1", Kind: d.Kind(), Prev: prev}
		line, err := encodeEvent(e, body)
		if err != nil {
			t.Fatal(err)
		}
		if e, err = follow(Event{Seq: e.Seq - 1, Hash: prev}, key(e.Seq), line); err != nil {
			t.Fatal(err)
		}
		prev = e.Hash
		fmt.Fprintf(&b, "%s\n", line)
	}
	golden(t, "schema-1.events", b.String())
}
