package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"baton/internal/session"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

// samples has at least one message of every type; each is a golden frame in testdata/v1. A sample may be added, but an old one never
// changes: other versions have said it.
var samples = []struct {
	name string
	m    Message
}{
	{"hello", &Hello{
		Versions: []uint8{1}, Run: 8, Build: "v1.3.0", SHA256: bytes.Repeat([]byte{0xab}, 32), NoFile: 20000, Open: 11,
		States: map[string][]int{"echo": {1}, "ping": {1, 2}},
	}},
	{"hello-takeover", &Hello{Versions: []uint8{1, 2}, Run: 8, Build: "v2.0.0", NoFile: 1024, Open: 9, States: map[string][]int{}, Takeover: true}},
	{"welcome", &Welcome{Version: 1, Run: 7, Handoff: "7.mwv8yveh", Listeners: []string{"ping://:7000", "echo://[::1]:7001"}, Sessions: 300, Began: 5_000_000_000, States: map[string]int{"echo": 2, "ping": 1}}},
	{"welcome-check", &Welcome{Version: 1, Run: 7, Handoff: "7.mwv8yveh", Listeners: []string{"ping://:7000"}, Sessions: 300, Began: 5_000_000_000, Check: true, States: map[string]int{"ping": 1}}},
	{"lend", &Lend{Batch: 1, IDs: []ID{session.MakeID(7, 1), session.MakeID(7, 2)}, Cookies: []uint64{4097, 4098}, Slots: []int{0, -1}}},
	{"offer", &Offer{
		Seq: 1, FrozenAt: 5_001_000_000, IDs: []ID{session.MakeID(7, 1), session.MakeID(7, 2)}, States: []cbor.RawMessage{{0xa1, 0x01, 0x01}, {0xa1, 0x01, 0x02}},
	}},
	{"take", &Take{Seq: 1, IDs: []ID{session.MakeID(7, 1), session.MakeID(7, 2)}}},
	{"take-refused", &Take{Seq: 1, IDs: []ID{session.MakeID(7, 1)}, Refused: []Refusal{{session.MakeID(7, 2), "conn: state cannot be taken"}}}},
	{"give", &Give{Seq: 1, IDs: []ID{session.MakeID(7, 1), session.MakeID(7, 2)}}},
	{"give-late", &Give{Seq: 1, IDs: []ID{session.MakeID(7, 1), session.MakeID(7, 2)}, Lates: []cbor.RawMessage{{0xa1, 0x01, 0x02}}}},
	{"closed", &Closed{IDs: []ID{session.MakeID(7, 3)}}},
	{"done", &Done{Moved: 300, Stragglers: 1}},
	{"done-answer", &Done{Moved: 300, Stragglers: 1, Pause: Pause{P50: 19_000, P99: 80_000, P999: 90_000, Max: 1_900_000}}},
	{"bye", &Bye{Seq: 41, Head: bytes.Repeat([]byte{0xcd}, 32)}},
	{"abort", &Abort{Code: Failed, Reason: "the handoff took too long"}},
	{"abort-refused", &Abort{Code: Refused, Reason: `protocol "ping" is not known here`}},
	{"abort-checked", &Abort{Code: Checked, Reason: "an upgrade would work"}},
	{"beat", &Beat{N: 3}},
}

func goldenPath(name string) string {
	return filepath.Join("testdata", fmt.Sprintf("v%d", Version), name+".hex")
}

// writeGolden writes a frame for people: what it says in CBOR's diagnostic notation, the header, the payload.
func writeGolden(frame []byte) string {
	var b strings.Builder
	payload := frame[headerSize:]
	says, err := cbor.Diagnose(payload)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(&b, "# %v %s\n%x\n", Type(frame[5]), says, frame[:headerSize])
	for len(payload) > 0 {
		n := min(32, len(payload))
		fmt.Fprintf(&b, "%x\n", payload[:n])
		payload = payload[n:]
	}
	return b.String()
}

func readGolden(text string) ([]byte, error) {
	var digits strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			digits.WriteString(strings.TrimSpace(line))
		}
	}
	return hex.DecodeString(digits.String())
}

func frameOf(t testing.TB, m Message) []byte {
	t.Helper()
	p, err := pack(Version, m, make([]int, fds(m)))
	if err != nil {
		t.Fatal(err)
	}
	return p.frame
}

func parseFrame(frame []byte) (Message, error) {
	h, err := parseHeader(frame, Version)
	if err != nil {
		return nil, err
	}
	return decode(h.typ, frame[headerSize:])
}

func TestGoldenFrames(t *testing.T) {
	seen := map[Type]bool{}
	for _, s := range samples {
		seen[s.m.Type()] = true
		frame := frameOf(t, s.m)
		if *update {
			if err := os.WriteFile(goldenPath(s.name), []byte(writeGolden(frame)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(goldenPath(s.name))
		if err != nil {
			t.Fatalf("%v (run with -update to write it)", err)
		}
		if diff := cmp.Diff(string(want), writeGolden(frame)); diff != "" {
			t.Errorf("%s: this version says something else than before (-before +now):\n%s", s.name, diff)
		}
		if m, err := parseFrame(frame); err != nil || !reflect.DeepEqual(m, s.m) {
			t.Errorf("%s: parsed as %+v, %v, want %+v", s.name, m, err, s.m)
		}
	}
	for typ := range typeNames {
		if !seen[typ] {
			t.Errorf("no golden frame of %v", typ)
		}
	}
}

// TestOldFrames reads every golden frame there is, also those that nobody writes any more. Frames of another version have to be refused
// as such, but for the types that are the same in all.
func TestOldFrames(t *testing.T) {
	paths, err := filepath.Glob("testdata/v*/*.hex")
	if err != nil || len(paths) < len(samples) {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		frame, err := readGolden(string(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if _, err := parseFrame(frame); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
