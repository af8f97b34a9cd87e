package conn_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"

	"baton/conn"
)

// numbered answers each line with the line and its number. The number is what a session has to remember.
type numbered struct{ n int }

func (l *numbered) Serve(c *conn.Conn) error {
	for {
		b := c.Input()
		end := bytes.IndexByte(b, '\n') + 1
		if end == 0 {
			return c.More()
		}
		l.n++
		if _, err := fmt.Fprintf(c, "%d %s", l.n, b[:end]); err != nil {
			return err
		}
		c.Discard(end)
	}
}

func (l *numbered) Save(int) ([]byte, error) { return strconv.AppendInt(nil, int64(l.n), 10), nil }

func (l *numbered) Load(_ int, b []byte) (err error) {
	l.n, err = strconv.Atoi(string(b))
	return err
}

// A protocol with state, served.
func Example() {
	s, err := conn.New(conn.Config{Protocols: []conn.Protocol{
		{Name: "numbered", New: func() conn.Handler { return &numbered{} }},
	}})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	l, err := s.Listen("numbered://127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s.Accept()

	c, err := net.Dial("tcp", l.Addr.String())
	if err != nil {
		panic(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "hello\nworld\n")
	answers := bufio.NewScanner(c)
	for range 2 {
		answers.Scan()
		fmt.Println(answers.Text())
	}
	// Output:
	// 1 hello
	// 2 world
}
