package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Another version of the server: the same source with a few words changed, so that the environment says what it speaks (BATON_OTHER_…).

// A change is words in a file of the source, and what stands there in the other version.
type change struct{ file, from, to string }

var changes = []change{
	{"handoff/wire/channel.go", "version: Version,\n", "version: first(),\n"},
	{"handoff/wire/frame.go", "payload, err := encoding.Marshal(m)", "payload, err := otherwise(m)"},
	{"handoff/greeting.go", "Versions: []uint8{wire.Version}", "Versions: spoken()"},
	{"handoff/greeting.go", "!slices.Contains(h.Versions, wire.Version)", "!slices.Contains(h.Versions, common())"},
	{"handoff/greeting.go", "h.Versions, wire.Version)\n", "h.Versions, common())\n"},
	{"handoff/greeting.go", "Version: wire.Version, Run:", "Version: chosen(), Run:"},
	{"handoff/adopting.go", "if w.Version != wire.Version {", "t.channel.SetVersion(w.Version)\n\tif w.Version != wire.Version {"},
	{"conn/ping/ping.go", "Name: Name,", `Name: Name, Reads: states("BATON_OTHER_READS"), Writes: states("BATON_OTHER_WRITES"),`},
	{"journal/clock.go", "return now.Round(0), mono.At(now)", "return wallClock(), mono.At(now)"},
	{"journal/run.go", "r.Started = time.Now()", "r.Started = wallClock()"},
	{"conn/accept.go", "opened: time.Now().UnixNano()", "opened: wallClock().UnixNano()"},
	{"handoff/upgrade.go", "time.Now().UnixMilli()", "wallClock().UnixMilli()"},
}

// added files, by where they go and what they are made of.
var added = map[string]string{
	"handoff/wire/other.go": "wire.go.txt", "handoff/other.go": "handoff.go.txt", "conn/ping/other.go": "ping.go.txt",
	"journal/other.go": "clock.go.txt", "conn/other.go": "clock.go.txt", "handoff/wall.go": "clock.go.txt",
}

var other struct {
	once sync.Once
	path string
	err  error
}

// otherServer is the path of the other version. It is built when the first test asks for it.
func otherServer(t testing.TB) string {
	t.Helper()
	other.once.Do(func() { other.path, other.err = buildOther() })
	if other.err != nil {
		t.Fatal(other.err)
	}
	return other.path
}

func buildOther() (path string, err error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	put := func(file, text string) error {
		at := filepath.Join(programs.directory, strings.ReplaceAll(file, "/", "_")+".txt")
		replace[filepath.Join(root, file)] = at
		return os.WriteFile(at, []byte(text), 0o600)
	}
	texts := map[string]string{}
	for _, c := range changes {
		if texts[c.file] == "" {
			b, err := os.ReadFile(filepath.Join(root, c.file))
			if err != nil {
				return "", err
			}
			texts[c.file] = string(b)
		}
		if !strings.Contains(texts[c.file], c.from) {
			return "", fmt.Errorf("%s has changed, and no other version can be made of it: there is no %q", c.file, c.from)
		}
		texts[c.file] = strings.Replace(texts[c.file], c.from, c.to, 1)
	}
	for file, from := range added {
		b, err := os.ReadFile(filepath.Join("testdata/other", from))
		if err != nil {
			return "", err
		}
		texts[file] = strings.Replace(string(b), "package PACKAGE", "package "+filepath.Base(filepath.Dir(file)), 1)
	}
	for file, text := range texts {
		if err := put(file, text); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(programs.directory, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	path = filepath.Join(programs.directory, "other")
	args := []string{"build", "-overlay", list, "-o", path, "-ldflags", "-X main.version=" + versionOther}
	if race {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "baton/cmd/server")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building another version: %w\n%s", err, out)
	}
	return path, nil
}

// versionOther is how it calls itself.
const versionOther = "9.9.9-other"

// asOther makes a program of the other version with this environment.
func (s *space) asOther(name string, env ...string) string {
	s.t.Helper()
	text := ""
	for _, e := range env {
		key, value, _ := strings.Cut(e, "=")
		text += fmt.Sprintf("export BATON_OTHER_%s='%s'\n", key, value)
	}
	return s.script(name, text+"exec "+otherServer(s.t)+` "$@"`)
}
