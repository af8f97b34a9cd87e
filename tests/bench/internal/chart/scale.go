package chart

import (
	"fmt"
	"math"
)

// A scale places values between two pixels.
type scale struct {
	min, max float64 // values
	from, to float64 // pixels
	log      bool
}

// newScale covers all values, which may be none. A linear scale begins at 0 unless a value is below; a logarithmic one ignores what has no
// logarithm, and ends at powers of ten.
func newScale(values []float64, log bool, from, to float64) scale {
	s := scale{math.Inf(1), math.Inf(-1), from, to, log}
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) || log && v <= 0 {
			continue
		}
		s.min, s.max = math.Min(s.min, v), math.Max(s.max, v)
	}
	if s.min > s.max {
		s.min, s.max = 1, 1
	}
	if log {
		s.min, s.max = math.Pow(10, math.Floor(math.Log10(s.min))), math.Pow(10, math.Ceil(math.Log10(s.max)))
		if s.min == s.max {
			s.max *= 10
		}
		return s
	}
	s.min = math.Min(s.min, 0)
	if s.min == s.max {
		s.max++
	}
	step := s.step()
	s.min, s.max = math.Floor(s.min/step)*step, math.Ceil(s.max/step)*step
	return s
}

// at is the pixel of a value. What is off the scale lies on its end.
func (s scale) at(v float64) float64 {
	v = math.Max(s.min, math.Min(s.max, v))
	part := (v - s.min) / (s.max - s.min)
	if s.log {
		part = math.Log(v/s.min) / math.Log(s.max/s.min)
	}
	return s.from + part*(s.to-s.from)
}

// step is the distance of the ticks of a linear scale: about five of them, at 1, 2 or 5 times a power of ten.
func (s scale) step() float64 {
	rough := (s.max - s.min) / 5
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= rough*0.999 {
			return m * power
		}
	}
	return 10 * power
}

// ticks are values worth a line.
func (s scale) ticks() (t []float64) {
	if s.log {
		few := s.max/s.min < 200
		for power := s.min; power <= s.max*1.001; power *= 10 {
			t = append(t, power)
			if few && power*5 < s.max {
				t = append(t, power*2, power*5)
			}
		}
		return t
	}
	step := s.step()
	for i := math.Round(s.min / step); i*step <= s.max+step/1000; i++ {
		t = append(t, i*step)
	}
	return t
}

// label writes a tick's value in few characters.
func label(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case a >= 1e4:
		return fmt.Sprintf("%.3gk", v/1e3)
	}
	return fmt.Sprintf("%.3g", v)
}
