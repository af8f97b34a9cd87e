// Package part runs the parts of a measurement as processes of their own, all of them the same program: a Child is asked one thing at a
// time over its stdin, answers over its stdout, and ends when its stdin does.
package part

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// question and answer are a line of JSON each.
type question struct {
	Do   string          `json:"do"`
	With json.RawMessage `json:"with,omitempty"`
}

type answer struct {
	Error string          `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// A Child is a process that was started to play a role.
type Child struct {
	role  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *json.Decoder
	mu    sync.Mutex // one question at a time
}

// Start runs this program again in a role. Its stderr is ours.
func Start(role string, env ...string) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &Child{role: role, cmd: exec.Command(self, "-role", role)}
	c.cmd.Stderr = os.Stderr
	c.cmd.Env = append(os.Environ(), env...)
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.lines = json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	return c, nil
}

// PID is the child's.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Ask has the child do something and waits for the answer. with and into may be nil.
func (c *Child) Ask(do string, with, into any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	raw, err := json.Marshal(with)
	if err == nil {
		err = json.NewEncoder(c.in).Encode(question{do, raw})
	}
	var a answer
	if err == nil {
		err = c.lines.Decode(&a)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: %s: %w", c.role, do, err)
	case a.Error != "":
		return fmt.Errorf("%s: %s: %s", c.role, do, a.Error)
	case into == nil:
		return nil
	}
	return json.Unmarshal(a.Value, into)
}

// endTime is how long a child may take to end by itself.
const endTime = 5 * time.Second

// Close ends the child and waits for its end.
func (c *Child) Close() {
	c.in.Close()
	stop := time.AfterFunc(endTime, func() { c.cmd.Process.Kill() })
	defer stop.Stop()
	c.cmd.Wait()
}

// Handlers are what a role can be asked, by name.
type Handlers map[string]func(with json.RawMessage) (any, error)

// Do makes a handler of a function of what is asked with.
func Do[With any](f func(With) (any, error)) func(json.RawMessage) (any, error) {
	return func(raw json.RawMessage) (any, error) {
		var with With
		if err := json.Unmarshal(raw, &with); err != nil {
			return nil, err
		}
		return f(with)
	}
}

// Play answers questions until there are no more.
func (h Handlers) Play(in io.Reader, out io.Writer) error {
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q question
		if err := questions.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(h.answer(q)); err != nil {
			return err
		}
	}
}

func (h Handlers) answer(q question) (a answer) {
	handle := h[q.Do]
	if handle == nil {
		return answer{Error: "cannot be asked that"}
	}
	v, err := handle(q.With)
	if err == nil {
		a.Value, err = json.Marshal(v)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}
