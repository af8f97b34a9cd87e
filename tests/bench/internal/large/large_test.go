package large

import (
	"fmt"
	"testing"
)

// A few sessions go through each part; the journal and both machines would say if anything was left over.
func TestParts(t *testing.T) {
	for _, n := range []int{1, 1000} {
		if c := Tables(n); c.N != n || c.Time <= 0 {
			t.Errorf("tables: %+v", c)
		}
		c, err := Talk(n)
		if err != nil || c.Steps == 0 {
			t.Errorf("conversation: %+v, %v", c, err)
		}
		c, replay, err := Book(t.TempDir(), n)
		if err != nil || replay <= 0 || c.File <= 0 {
			t.Errorf("journal: %+v, %v", c, err)
		}
	}
}

func BenchmarkBook(b *testing.B) {
	for _, n := range []int{15_000, 60_000, 240_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				c, _, err := Book(b.TempDir(), n)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(c.Time, "ns/session")
			}
		})
	}
}
