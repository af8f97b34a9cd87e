package fsm

import (
	"fmt"
	"strings"
)

// Diagram draws the table as a Mermaid state diagram. Open moves, which are never refused, are drawn with their reason in brackets.
// docs/states.md holds its output, and a test keeps the two equal.
func Diagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	fmt.Fprintf(&b, "    [*] --> %s\n", Starting)
	for _, m := range table {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", m.From, m.To, label(m))
	}
	fmt.Fprintf(&b, "    %s --> [*]\n", Exited)
	return b.String()
}

// label is a move's reason up to its first colon or semicolon, which Mermaid would not take.
func label(m Move) string {
	s := m.Why
	if i := strings.IndexAny(s, ":;"); i >= 0 {
		s = s[:i]
	}
	if m.Open {
		return "(" + s + ")"
	}
	return s
}
