package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are the binaries that the tests run, built once.
var programs struct {
	server    string // of this tree, version "one"
	next      string // the same, version "two"
	bad       string // tests/internal/badsuccessor; the name it is called by chooses what it does
	stranger  string // tests/internal/stranger
	steps     string // tests/internal/stepserver, built with the tag "steps"
	directory string
}

const (
	versionOne = "1.0.0-one"
	versionTwo = "2.0.0-two"
)

// build makes the programs. The caller removes programs.directory.
func build() (err error) {
	p := &programs
	if p.directory, err = os.MkdirTemp("", "bt"); err != nil {
		return err
	}
	if err := os.Chmod(p.directory, 0o755); err != nil { // strangers are run from here
		return err
	}
	for _, b := range []struct {
		path    *string
		name    string
		pkg     string
		version string
	}{
		{&p.server, "server", "baton/cmd/server", versionOne},
		{&p.next, "next", "baton/cmd/server", versionTwo},
		{&p.bad, "bad", "baton/tests/internal/badsuccessor", ""},
		{&p.stranger, "stranger", "baton/tests/internal/stranger", ""},
		{&p.steps, "steps", "baton/tests/internal/stepserver", ""},
	} {
		*b.path = filepath.Join(p.directory, b.name)
		args := []string{"build", "-o", *b.path, "-ldflags", "-X main.version=" + b.version}
		if b.name == "steps" {
			args = append(args, "-tags", "steps")
		}
		if race && (b.version != "" || b.name == "steps") {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, b.pkg)...).CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", b.pkg, err, out)
		}
	}
	return nil
}
