package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestLinearScale(t *testing.T) {
	s := newScale([]float64{3, 47}, false, 0, 100)
	if s.min != 0 || s.max != 50 {
		t.Fatalf("from %v to %v", s.min, s.max)
	}
	for v, want := range map[float64]float64{0: 0, 25: 50, 50: 100, 60: 100, -1: 0} {
		if got := s.at(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v is at %v, want %v", v, got, want)
		}
	}
	if got := s.ticks(); !slices.Equal(got, []float64{0, 10, 20, 30, 40, 50}) {
		t.Errorf("ticks %v", got)
	}
	if s := newScale([]float64{-3, 7}, false, 0, 100); s.at(-3) <= s.at(-3.5) || s.min > -3 {
		t.Errorf("below zero: %+v", s)
	}
}

func TestLogScale(t *testing.T) {
	s := newScale([]float64{0, 20, 3000}, true, 400, 0) // as of y axes, whose pixels count downward
	if s.min != 10 || s.max != 10000 {
		t.Fatalf("from %v to %v", s.min, s.max)
	}
	for v, want := range map[float64]float64{10: 400, 100: 400 - 400.0/3, 10000: 0, 0: 400} {
		if got := s.at(v); math.Abs(got-want) > 1e-6 {
			t.Errorf("%v is at %v, want %v", v, got, want)
		}
	}
	if got := s.ticks(); !slices.Equal(got, []float64{10, 100, 1000, 10000}) {
		t.Errorf("ticks %v", got)
	}
}

// Whatever was measured, or not, a scale has two ends, and pixels are numbers.
func TestScaleOfOddValues(t *testing.T) {
	for _, values := range [][]float64{nil, {0}, {5}, {math.NaN(), math.Inf(1)}, {1e-9}, {-2, -2}} {
		for _, log := range []bool{false, true} {
			s := newScale(values, log, 0, 100)
			if !(s.min < s.max) || math.IsNaN(s.at(5)) || len(s.ticks()) < 2 || len(s.ticks()) > 40 {
				t.Errorf("%v, log %v: %+v, ticks %v", values, log, s, s.ticks())
			}
		}
	}
}

func TestSVGIsXML(t *testing.T) {
	c := Chart{
		Title: `"a" < b & c`, X: "x", Y: "y", LogY: true,
		Series: []Series{{Name: "one & two", Points: []Point{{X: 1, Y: 2, Low: 1, High: 3}, {X: 2, Y: 0}}}, {Name: "none"}},
		Bands:  []Band{{From: 1, To: 1.5, Name: "<band>"}},
	}
	svg := c.SVG()
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Error(svg)
	}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
}
