package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"baton/conn"
)

// moody is a protocol whose sessions make a handoff fail when the server is called by one of these names:
//
//	...-refuses   they are refused when they come
//	...-hangs     they are refused when they come, after it has been silent for long
//
// "ping" is answered with "pong" at once, "wait" when another process serves the workspace: by then the session is a straggler.
type moody struct{ workspace string }

const (
	hanging = 1500 * time.Millisecond // longer than a predecessor that is to lose patience has
	waiting = 1500 * time.Millisecond // at most, for another process to serve
	lagging = 100 * time.Millisecond  // after that, so that it has accepted sessions of its own
)

func moodyProtocol(workspace string) conn.Protocol {
	return conn.Protocol{Name: "moody", MaxFrame: 4, Blocking: true, New: func() conn.Handler { return moody{workspace} }}
}

func (m moody) Serve(c *conn.Conn) error {
	for {
		frame, err := c.Peek(4)
		if err != nil {
			return err
		}
		if string(frame) == "wait" {
			m.waitForAnother()
		}
		c.Discard(4)
		if _, err := c.Write([]byte("pong")); err != nil {
			return err
		}
	}
}

func (m moody) waitForAnother() {
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(m.workspace, "server.pid"))
		if pid, _ := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pid != os.Getpid() {
			time.Sleep(lagging)
			return
		}
	}
}

func (moody) Save(int) ([]byte, error) { return nil, nil }

func (moody) Load(int, []byte) error {
	_, how, _ := strings.Cut(filepath.Base(os.Args[0]), "-")
	switch how {
	case "refuses":
		return errors.New("not in the mood")
	case "hangs":
		time.Sleep(hanging)
		return errors.New("not in the mood, after long thought")
	}
	return nil
}
