package protocol

import (
	"flag"
	"os"
	"testing"
)

// TestMain has rapid look at more than its 100 cases: one takes 0.1 ms here.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		checks := "5000"
		if testing.Short() {
			checks = "1000"
		}
		flag.Set("rapid.checks", checks)
	}
	os.Exit(m.Run())
}
