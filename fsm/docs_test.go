package fsm

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/states.md")

const page = "../docs/states.md"

// The page is the table, drawn: it is generated, so that it cannot say anything else.
func TestStatesPage(t *testing.T) {
	want := statesPage()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the table says; run go test ./fsm -update (-want +got):\n%s", page, diff)
	}
}

func statesPage() string {
	var b strings.Builder
	b.WriteString(`# States of a run

Generated from the table in package fsm by ` + "`go test ./fsm -update`" + `; a test keeps the two equal.

A run of the server is in exactly one state. Each move is in the journal before it takes effect. A *forward* move that the journal does not
take is refused, and nothing changes. An *open* one, in brackets in the diagram, leads back or out and is never refused: a full disk stops
upgrades, not serving and not stopping. A stop that comes in Preparing or Transferring goes the way back first.

` + "```mermaid\n" + Diagram() + "```\n" + `
## What being in a state means

| state | meaning |
|---|---|
`)
	for _, s := range States() {
		fmt.Fprintf(&b, "| %s | %s |\n", s, s.Meaning())
	}
	b.WriteString("\n## Which move follows which\n\n| from | to | | when |\n|---|---|---|---|\n")
	for _, m := range Moves() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", m.From, m.To, kind(m), m.Why)
	}
	return b.String()
}

func kind(m Move) string {
	if m.Open {
		return "open"
	}
	return "forward"
}
