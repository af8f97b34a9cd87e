// Command badsuccessor is a successor that fails, in the way that the name it is called by says. It speaks package wire itself.
package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"baton/handoff/wire"

	"golang.org/x/sys/unix"
)

// ways to fail, by name. A function that returns leaves the successor to wait for ABORT, and to exit as a decent one does.
var ways = map[string]func(*successor){
	// Before HELLO.
	"exits":         func(*successor) { die("no such database") },
	"crashes":       func(*successor) { kill() },
	"hangs":         func(*successor) { hang() },
	"garbage-hello": func(s *successor) { s.raw([]byte("GET / HTTP/1.1\r\n\r\n")) },
	"early-take":    func(s *successor) { s.say(&wire.Take{Seq: 1}) },

	// In HELLO.
	"other-version": func(s *successor) { s.hello(func(h *wire.Hello) { h.Versions = []uint8{99} }) },
	"no-protocol":   func(s *successor) { s.hello(func(h *wire.Hello) { h.States = map[string][]int{"chess": {1}} }) },
	"no-state":      func(s *successor) { s.hello(func(h *wire.Hello) { h.States = map[string][]int{"ping": {99}} }) },
	"few-files":     func(s *successor) { s.hello(func(h *wire.Hello) { h.NoFile = 20 }) },

	// Before the first session moves.
	"dies-after-hello":   func(s *successor) { s.hello(nil); die("out of luck") },
	"refuses-welcome":    func(s *successor) { s.until(wire.TWelcome); s.refuse("the cache is cold") },
	"dies-after-welcome": func(s *successor) { s.until(wire.TWelcome); kill() },
	"garbage-frame":      func(s *successor) { s.until(wire.TWelcome); s.raw([]byte("BATN\x01\xee\x00\x00\x00\x00\x00\x00")) },
	"early-done":         func(s *successor) { s.until(wire.TWelcome); s.say(&wire.Done{}) },
	"refuses-batch":      func(s *successor) { s.until(wire.TLend); s.refuse("these are not my sockets") },
	"dies-after-lend":    func(s *successor) { s.until(wire.TLend); kill() },
	"dies-after-offer":   func(s *successor) { s.until(wire.TOffer); kill() },
	"silent-after-offer": func(s *successor) { s.until(wire.TOffer); hang() },
	"refuses-session": func(s *successor) {
		o := s.until(wire.TOffer).(*wire.Offer)
		s.say(&wire.Take{Seq: o.Seq, IDs: o.IDs[1:], Refused: []wire.Refusal{{ID: o.IDs[0], Reason: "no room for this one"}}})
	},
	"takes-others": func(s *successor) {
		o := s.until(wire.TOffer).(*wire.Offer)
		s.say(&wire.Take{Seq: o.Seq, IDs: append(o.IDs[1:], 1<<60)})
	},
	"takes-twice": func(s *successor) {
		o := s.until(wire.TOffer).(*wire.Offer)
		s.say(&wire.Take{Seq: o.Seq + 1, IDs: o.IDs})
	},

	// After it.
	"dies-after-take": func(s *successor) { s.take(); kill() },
	"dies-after-give": func(s *successor) { s.take(); s.until(wire.TGive); kill() },
	"hangs-after-give": func(s *successor) {
		s.take()
		s.until(wire.TGive)
		hang()
	},
	"refuses-after-give": func(s *successor) { s.take(); s.until(wire.TGive); s.refuse("second thoughts") },
}

type successor struct {
	socket  *net.UnixConn
	channel *wire.Channel
	greeted bool
}

func main() {
	name := filepath.Base(os.Args[0])
	way, ok := ways[name]
	if _, late := lateWays[name]; !ok && !late {
		die(fmt.Sprintf("%q is none of the ways to fail: %v", name, slices.Sorted(maps.Keys(ways))))
	}
	if late, ok := lateWays[name]; ok {
		serve(late)
	}
	s := &successor{}
	way(s)
	s.leave()
}

// connect goes where the predecessor waits.
func (s *successor) connect() {
	if s.socket != nil {
		return
	}
	var run int
	if _, err := fmt.Sscan(os.Getenv("BATON_SUCCESSOR_OF"), &run); err != nil {
		die("BATON_SUCCESSOR_OF: " + err.Error())
	}
	at := slices.Index(os.Args, "-w")
	path := filepath.Join(os.Args[at+1], "run", fmt.Sprintf("%06d.sock", run))
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		die(err.Error())
	}
	s.socket = c
	if s.channel, err = wire.NewChannel(c, time.Minute); err != nil {
		die(err.Error())
	}
}

func (s *successor) say(m wire.Message) {
	s.connect()
	if err := s.channel.Send(m); err != nil {
		die(err.Error())
	}
}

// raw sends what is no message.
func (s *successor) raw(frame []byte) {
	s.connect()
	if _, err := s.socket.Write(frame); err != nil {
		die(err.Error())
	}
}

func (s *successor) hello(change func(*wire.Hello)) {
	h := &wire.Hello{Versions: []uint8{wire.Version}, Run: 999, Build: "bad", NoFile: 20_000, Open: 10, States: map[string][]int{"ping": {1}}}
	if change != nil {
		change(h)
	}
	s.greeted = true
	s.say(h)
}

// until receives, greeting first, until a message of this type.
func (s *successor) until(t wire.Type) wire.Message {
	if !s.greeted {
		s.hello(nil)
	}
	for {
		m, _, err := s.channel.Receive()
		if err != nil {
			die("waiting for " + t.String() + ": " + err.Error())
		}
		if m.Type() == t {
			return m
		}
	}
}

func (s *successor) take() {
	o := s.until(wire.TOffer).(*wire.Offer)
	s.say(&wire.Take{Seq: o.Seq, IDs: o.IDs})
}

// refuse ends the handoff, and exits, as it should.
func (s *successor) refuse(reason string) {
	s.say(&wire.Abort{Code: wire.Refused, Reason: reason})
	os.Exit(1)
}

// leave exits when the predecessor says so, or hangs up.
func (s *successor) leave() {
	for {
		m, _, err := s.channel.Receive()
		if err != nil || m.Type() == wire.TAbort {
			os.Exit(1)
		}
	}
}

func die(words string) {
	fmt.Fprintln(os.Stderr, "badsuccessor:", words)
	os.Exit(1)
}

func kill() {
	unix.Kill(os.Getpid(), syscall.SIGKILL)
	hang()
}

func hang() { time.Sleep(time.Hour) }
