package ping_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"baton/conn"
	"baton/conn/ping"
)

// serve starts a server that speaks ping, and tells why sessions ended.
func serve(t *testing.T) (addr string, ended <-chan error) {
	reasons := make(chan error, 100)
	s, err := conn.New(conn.Config{
		Run: 1, Protocols: []conn.Protocol{ping.Protocol()}, Closed: func(_ conn.Info, err error) { reasons <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l, err := s.Listen(ping.Name + "://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Accept()
	return l.Addr.String(), reasons
}

// However the stream is cut, the answers are the same.
func TestPing(t *testing.T) {
	addr, ended := serve(t)
	for _, tt := range []struct {
		in, out string
		want    error
	}{
		{"", "", io.EOF},
		{"ping", "pong", io.EOF},
		{"pingpingping", "pongpongpong", io.EOF},
		{"pingpi", "pong", io.ErrUnexpectedEOF},
		{"pingpang", "pong", ping.ErrFrame},
		{"Ping", "", ping.ErrFrame},
	} {
		for cut := range len(tt.in) + 1 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, tt.in[:cut])
			io.WriteString(c, tt.in[cut:])
			c.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(c); string(got) != tt.out || err != nil {
				t.Errorf("%q cut at %d: got %q, %v; want %q", tt.in, cut, got, err, tt.out)
			}
			c.Close()
			if err := <-ended; !errors.Is(err, tt.want) {
				t.Errorf("%q cut at %d: ended with %v, want %v", tt.in, cut, err, tt.want)
			}
		}
	}
}
