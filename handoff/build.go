package handoff

import (
	"crypto/sha256"
	"io"
	"os"
)

// A build says which program this is.
type build struct {
	path    string
	version string
	sha256  []byte // nil = it cannot be read any more
}

// thisBuild describes the running program by the file that was executed, also if another has its name by now.
func thisBuild(version string) build {
	b := build{path: startedAs[0], version: version}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return b
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err == nil {
		b.sha256 = h.Sum(nil)
	}
	return b
}
