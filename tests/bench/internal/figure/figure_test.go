package figure

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{9, 1, 5, 7}, 6},
	} {
		if got := Median(c.of); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.of, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("there is no median of nothing")
	}
}

// A machine that is twice as slow in the second turn changes no ratio. That of the medians of both sides would be 2.
func TestRatiosAreOfPairs(t *testing.T) {
	s := Ratios([]float64{2, 40, 6}, []float64{1, 20, 3, 99})
	if s.Median != 2 || s.Min != 2 || s.Max != 2 || len(s.All) != 3 {
		t.Errorf("got %+v", s)
	}
	if s := Ratios([]float64{1, 2}, []float64{0, 2}); s.Median != 1 || len(s.All) != 1 {
		t.Errorf("a division by zero counts: %+v", s)
	}
	if s := Ratios(nil, nil); len(s.All) != 0 || s.All == nil {
		t.Errorf("of nothing: %+v", s)
	}
}

func TestDistOf(t *testing.T) {
	h := New()
	if d := DistOf(h); d != (Dist{}) {
		t.Errorf("of nothing: %+v", d)
	}
	for i := range 1000 {
		Record(h, int64(i+1)*1000)
	}
	Record(h, -5)                  // a clock that went back
	Record(h, 1000*1000*1000*1000) // beyond the end
	d := DistOf(h)
	near := func(got, want int64) bool { return math.Abs(float64(got-want)) <= 0.002*float64(want) }
	if d.Count != 1002 || !near(d.P50, 500_000) || !near(d.P99, 991_000) || !near(d.P999, 1_000_000) || !near(d.Max, 100e9) {
		t.Errorf("got %+v", d)
	}
}

func TestMiddle(t *testing.T) {
	m := Middle([]Dist{{10, 1, 10, 100, 1000}, {10, 3, 30, 300, 9000}, {10, 2, 20, 200, 2000}})
	if want := (Dist{30, 2, 20, 200, 9000}); m != want {
		t.Errorf("got %+v, want %+v", m, want)
	}
	if m := Middle(nil); m != (Dist{}) {
		t.Errorf("of nothing: %+v", m)
	}
}
