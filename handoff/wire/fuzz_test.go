package wire

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// FuzzParse: whatever comes in a frame, parsing does not panic, allocates in proportion to what came, and a message that parses says the
// same when it is said again.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/v*/*.hex")
	if err != nil || len(paths) == 0 {
		f.Fatal(paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		frame, err := readGolden(string(text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) { checkParse(t, frame) })
}

func checkParse(t *testing.T, frame []byte) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := parseFrame(frame)
	runtime.ReadMemStats(&after)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(200*len(frame)+64<<10); got > most {
		t.Errorf("%d bytes allocated for a frame of %d", got, len(frame))
	}
	if err != nil {
		return
	}
	said, err := encode(m)
	if err != nil {
		t.Fatalf("%+v was parsed and cannot be encoded: %v", m, err)
	}
	again, err := decode(m.Type(), said)
	if err != nil {
		t.Fatalf("%+v was parsed and encoded, and then: %v", m, err)
	}
	saidAgain, err := encode(again)
	if err != nil || !bytes.Equal(said, saidAgain) {
		t.Fatalf("%+v was said as\n%x, and then as\n%x (%v)", m, said, saidAgain, err)
	}
}

// TestDamagedFrames is a little of FuzzParse in every run: each golden frame with each byte changed, and with some cut or doubled.
func TestDamagedFrames(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range samples {
		frame := frameOf(t, s.m)
		for i := range frame {
			for range 4 {
				damaged := bytes.Clone(frame)
				damaged[i] = byte(r.Uint32())
				checkParse(t, damaged)
			}
			checkParse(t, frame[:i])
			checkParse(t, append(bytes.Clone(frame[:i]), frame[i/2:]...))
		}
	}
}
