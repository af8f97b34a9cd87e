package wire_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"baton/conn"
	"baton/handoff/wire"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

const docPath = "../../docs/protocol.md"

// documented are the types whose fields docs/protocol.md has a table of, by the word under which it has it.
var documented = map[string]any{
	"HELLO": wire.Hello{}, "WELCOME": wire.Welcome{}, "LEND": wire.Lend{}, "OFFER": wire.Offer{}, "TAKE": wire.Take{}, "GIVE": wire.Give{},
	"CLOSED": wire.Closed{}, "DONE": wire.Done{}, "BYE": wire.Bye{}, "ABORT": wire.Abort{}, "BEAT": wire.Beat{},
	"REFUSAL": wire.Refusal{}, "PAUSE": wire.Pause{}, "STATE": conn.State{}, "LATE": conn.Late{},
}

// A table is one in a Markdown page: its rows without the head, and the word of capitals that begins a paragraph or heading before it.
type table struct {
	word string
	rows [][]string
}

func tables(t *testing.T) (list []table) {
	t.Helper()
	page, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	word, inTable := "", false
	begins := regexp.MustCompile(`^(?:### )?([A-Z]{3,})\b`)
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inTable = false
			if m := begins.FindStringSubmatch(line); m != nil {
				word = m[1]
			} else if strings.HasPrefix(line, "#") {
				word = ""
			}
			continue
		}
		var row []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		switch {
		case !inTable:
			list, inTable = append(list, table{word: word + " " + strings.Join(row, " ")}), true
		case !strings.HasPrefix(row[0], "-"):
			list[len(list)-1].rows = append(list[len(list)-1].rows, row)
		}
	}
	return list
}

// find returns the rows of the table with this word and head.
func find(t *testing.T, list []table, word, head string) [][]string {
	t.Helper()
	for _, tab := range list {
		if strings.TrimSpace(tab.word) == strings.TrimSpace(word+" "+head) {
			return tab.rows
		}
	}
	t.Fatalf("%s has no table %q of %s", docPath, head, word)
	return nil
}

func TestDocumentedFields(t *testing.T) {
	list := tables(t)
	for word, v := range documented {
		var fields []string
		for i := range reflect.TypeOf(v).NumField() {
			f := reflect.TypeOf(v).Field(i)
			tag := strings.Split(f.Tag.Get("cbor"), ",")
			kind := cborType(f.Type)
			if strings.Contains(f.Tag.Get("cbor"), "omitempty") {
				kind += ", optional"
			}
			fields = append(fields, fmt.Sprintf("%s %s: %s", tag[0], fieldName(f.Name), kind))
		}
		var documented []string
		for _, row := range find(t, list, word, "key field type") {
			documented = append(documented, fmt.Sprintf("%s %s: %s", row[0], row[1], row[2]))
		}
		if diff := cmp.Diff(fields, documented); diff != "" {
			t.Errorf("%s (-code +page):\n%s", word, diff)
		}
	}
}

// fieldName writes a Go name as the page does: noFile, sha256, p50.
func fieldName(s string) string {
	if s == strings.ToUpper(s) {
		return strings.ToLower(s)
	}
	if s == "IDs" {
		return "ids"
	}
	r := []rune(s)
	r[0] = unicode.ToLower(r[0])
	return string(r)
}

func cborType(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[cbor.RawMessage]():
		return "any"
	case t.Implements(reflect.TypeFor[interface{ MarshalBinary() ([]byte, error) }]()):
		return "bytes"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.String:
		return "text"
	case reflect.Int, reflect.Int64:
		return "int"
	case reflect.Uint8, reflect.Uint64:
		return "uint"
	case reflect.Map:
		return "map of " + cborType(t.Key()) + " to " + cborType(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "array of " + cborType(t.Elem())
	case reflect.Struct:
		return strings.ToUpper(t.Name())
	}
	return t.String()
}

func TestDocumentedTypes(t *testing.T) {
	var said []string
	for _, row := range find(t, tables(t), "", "type name from descriptors says") {
		said = append(said, row[0]+" "+row[1])
		n, _ := strconv.Atoi(row[0])
		if has := wire.HasDescriptors(wire.Type(n)); has != (row[3] != "0") {
			t.Errorf("%s: the page says descriptors: %s", row[1], row[3])
		}
	}
	var types []string
	for n := 1; n < 256; n++ {
		if name := wire.Type(n).String(); !strings.HasPrefix(name, "type ") {
			types = append(types, fmt.Sprintf("%d %s", n, name))
		}
	}
	if diff := cmp.Diff(types, said); diff != "" {
		t.Errorf("types (-code +page):\n%s", diff)
	}
}

func TestDocumentedHeaderAndLimits(t *testing.T) {
	list := tables(t)
	at := 0
	for _, row := range find(t, list, "", "offset size field value") {
		if row[0] != strconv.Itoa(at) {
			t.Errorf("%s is at %s, want %d", row[2], row[0], at)
		}
		size, _ := strconv.Atoi(row[1])
		switch row[2] {
		case "magic":
			if row[3] != "`"+wire.Magic+"`" {
				t.Errorf("magic is %s", row[3])
			}
		case "version":
			if !strings.HasSuffix(row[3], fmt.Sprintf(": %d", wire.Version)) {
				t.Errorf("version is %s", row[3])
			}
		case "payload":
			if at != wire.HeaderSize {
				t.Errorf("the payload is at %d, want %d", at, wire.HeaderSize)
			}
		}
		at += size
	}
	limits := map[string]int{"`MaxInline`": wire.MaxInline, "`MaxPayload`": wire.MaxPayload, "`MaxFDs`": wire.MaxFDs}
	for _, row := range find(t, list, "", "limit value") {
		if want, ok := limits[row[0]]; !ok || row[1] != strconv.Itoa(want) {
			t.Errorf("%s is %s, want %d", row[0], row[1], want)
		}
		delete(limits, row[0])
	}
	if len(limits) > 0 {
		t.Errorf("the page lacks %v", limits)
	}
	versions := find(t, list, "", "version")
	if last := versions[len(versions)-1][0]; last != strconv.Itoa(wire.Version) {
		t.Errorf("the newest version on the page is %s, the code speaks %d", last, wire.Version)
	}
}

// TestDocumentedFrames: every golden frame on the page is that of testdata, and every type has one.
func TestDocumentedFrames(t *testing.T) {
	page, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile("(?s)`(handoff/wire/testdata/[^`]+\\.hex)`\n\n```\n(.*?)```\n").FindAllStringSubmatch(string(page), -1) {
		golden, err := os.ReadFile(filepath.Join("../..", m[1]))
		if err != nil {
			t.Error(err)
		} else if string(golden) != m[2] {
			t.Errorf("%s on the page:\n%s\nand in testdata:\n%s", m[1], m[2], golden)
		}
		seen[strings.Fields(m[2])[1]] = true // "# HELLO {...}"
	}
	for n := 1; n < 256; n++ {
		if name := wire.Type(n).String(); !strings.HasPrefix(name, "type ") && !seen[name] {
			t.Errorf("the page has no golden frame of %s", name)
		}
	}
}
