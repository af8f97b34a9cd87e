// Command stranger talks to a server's sockets as a process that has no business there. It prints what it got as an answer.
//
//	stranger hello PATH     says a well-formed HELLO, and asks to take over, on a handoff socket
//	stranger status PATH    GET /status on a control socket
//	stranger upgrade PATH   POST /upgrade
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"baton/handoff/wire"
)

func main() {
	if len(os.Args) != 3 {
		fail("usage: stranger hello|status|upgrade PATH")
	}
	switch how, path := os.Args[1], os.Args[2]; how {
	case "hello":
		hello(path)
	case "status":
		request(path, "GET /status")
	case "upgrade":
		request(path, "POST /upgrade")
	default:
		fail("unknown " + how)
	}
}

func hello(path string) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		fail(err.Error())
	}
	ch, err := wire.NewChannel(c, time.Minute)
	if err != nil {
		fail(err.Error())
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	ch.Send(&wire.Hello{Versions: []uint8{wire.Version}, Run: 999, NoFile: 20_000, States: map[string][]int{"ping": {1}}, Takeover: true})
	m, fds, err := ch.Receive()
	if err != nil {
		fmt.Println("no answer:", err)
		return
	}
	fmt.Printf("answer: %v %+v with %d descriptors\n", m.Type(), m, len(fds))
}

func request(path, what string) {
	c, err := net.Dial("unix", path)
	if err != nil {
		fail(err.Error())
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: workspace\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", what)
	answer, err := io.ReadAll(c)
	if len(answer) == 0 {
		fmt.Println("no answer:", err)
		return
	}
	fmt.Printf("answer: %s\n", answer)
}

func fail(words string) {
	fmt.Fprintln(os.Stderr, "stranger:", words)
	os.Exit(1)
}
