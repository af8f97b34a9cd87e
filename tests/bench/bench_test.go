package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"baton/tests/bench/internal/crowd"
	"baton/tests/bench/internal/figure"
)

// The binary of the tests plays the roles as bench itself does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-role" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		size int
		bad  string
	}{
		{"", 15000, ""},
		{"-quick", 2000, ""},
		{"-n 1000,18000", 18000, ""},
		{"-n 1000,15000,18000", 15000, ""},
		{"-n 1000,", 0, "-n"},
		{"-n -3", 0, "-n"},
		{"-only [", 0, "-only"},
		{"-repeat -1", 0, "-repeat"},
		{"rows", 0, "unexpected"},
	} {
		o, err := parse(strings.Fields(c.args), io.Discard)
		switch {
		case c.bad == "" && (err != nil || o.size != c.size):
			t.Errorf("%q: size %d, %v", c.args, o.size, err)
		case c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

func TestRowsAreNumbered(t *testing.T) {
	for i, r := range allRows() {
		if r.Number != i+1 || r.measure == nil {
			t.Errorf("row %d has number %d", i+1, r.Number)
		}
	}
	b := &bench{}
	b.options, _ = parse([]string{"-only", "^1$|latency"}, io.Discard)
	for n, want := range map[int]bool{1: true, 4: true, 10: false, 2: false} {
		if b.wants(n) != want {
			t.Errorf("row %d is wanted: %v", n, !want)
		}
	}
}

func TestGoals(t *testing.T) {
	r := &row{}
	r.atMost("a", "×", 1.5, one(1.5))
	r.atLeast("b", "×", 8, figure.SpreadOf([]float64{7, 8, 9}))
	if !r.met() {
		t.Errorf("%+v", r.Checks)
	}
	r.atMost("worst", "ms", 10, worst([]float64{1, 2, 11}))
	if r.met() {
		t.Error("a worst case that is over the limit meets it")
	}
	r = &row{}
	r.atMost("never measured", "×", 1, figure.SpreadOf(nil))
	if r.met() || (&row{}).met() {
		t.Error("what was not measured meets its goal")
	}
}

// A ping that was due before the handoff and answered within belongs to it: it has waited for that.
func TestLatencyAround(t *testing.T) {
	samples := []crowd.Sample{{At: 50e6, Latency: 1e6}, {At: 150e6, Latency: 90e6}, {At: 210e6, Latency: 20e6}, {At: 300e6, Latency: 1e6}}
	before, around := latencyAround(samples, 100e6, 200e6)
	if before.Count != 1 || around.Count != 2 || around.Max < 89e6 {
		t.Errorf("before %+v, around %+v", before, around)
	}
}

func TestSlices20ms(t *testing.T) {
	got := slices20ms([]crowd.Sample{{At: -1100e6, Latency: 1e6}, {At: 1e6, Latency: 1e6}, {At: 19e6, Latency: 3e6}, {At: 45e6, Latency: 5e6}}, 0)
	if len(got) != 2 || got[0].at != 10 || got[0].d.Count != 2 || got[1].at != 50 || got[1].d.Count != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.5: "0.50", 12.34: "12.3", 1234.5: "1234", -25: "-25.0"} {
		if got := short(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}

// The whole, at a size at which it takes a few seconds: real servers, their rivals, the page.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	html := t.TempDir() + "/b.html"
	var out, progress bytes.Buffer
	code := run(t.Context(), []string{"-quick", "-repeat", "1", "-n", "50,300", "-only", "^([1-57]|10)$", "-html", html}, &out, &progress)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, progress.String(), out.String())
	}
	page, err := os.ReadFile(html)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(page, []byte("<svg")); n != 4 {
		t.Errorf("%d plots on the page", n)
	}
	for _, bad := range []string{"NaN", "ZgotmplZ", "NOT MEASURED"} {
		if bytes.Contains(page, []byte(bad)) || strings.Contains(out.String(), bad) {
			t.Errorf("%s in what was written:\n%s", bad, out.String())
		}
	}
}
