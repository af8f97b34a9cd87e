package protocol

import "baton/handoff/wire"

// A machine is what both sides are made on: what a step has come to so far, and the question that is open.
type machine struct {
	out  []Output
	then func() // continues when the question that is open has been answered with yes; nil = none is open
}

func (m *machine) do(o ...Output) { m.out = append(m.out, o...) }

func (m *machine) say(message wire.Message) { m.do(Send{message}) }

// ask asks a question and says what to do when the answer is yes. It has to be the last thing done in a step.
func (m *machine) ask(question Output, then func()) {
	m.then = then
	m.do(question)
}

func (m *machine) answered() {
	if then := m.then; then != nil {
		m.then = nil
		then()
	}
}
