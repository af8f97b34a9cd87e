package load_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain wants every goroutine ended and every file closed when all tests have ended.
func TestMain(m *testing.M) {
	debug.SetGCPercent(-1)                      // or the collector closes what nobody closed
	conn, err := net.Dial("udp", "127.0.0.1:9") // opens the runtime's own files
	if err != nil {
		panic(err)
	}
	_ = conn.Close()
	before := openFiles()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if after := openFiles(); after > before {
			fmt.Fprintf(os.Stderr, "%d files are open, %d were before the tests\n", after, before)
			code = 1
		}
		os.Exit(code)
	}))
}

// A server answers pings, each connection in a goroutine. What it does to the nth connection can be bent by misbehave.
type server struct {
	net.Listener
	addr string
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// misbehave is called before the kth pong (from 0) of the nth connection (from 0) is written, and returns what to write in its place, or
// an error to end the connection. A nil pong means that the other side has ended.
type misbehave func(c *net.TCPConn, n, k int, pong []byte) ([]byte, error)

func honest(_ *net.TCPConn, _, _ int, pong []byte) ([]byte, error) { return pong, nil }

// serve starts a server. It has ended, and its goroutines too, at the end of the test.
func serve(t testing.TB, bend misbehave) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Listener: ln, addr: ln.Addr().String(), conns: make(map[net.Conn]bool)}
	s.wg.Go(func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.keep(c)
			s.wg.Go(func() {
				defer s.drop(c)
				_ = answer(c.(*net.TCPConn), n, bend)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *server) keep(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = true
}

func (s *server) drop(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	_ = c.Close()
}

// answer serves one connection until EOF or an error. It answers a whole read with one write.
func answer(c *net.TCPConn, n int, bend misbehave) error {
	buf, have, k := make([]byte, 4096), 0, 0
	var out []byte
	for {
		got, err := c.Read(buf[have:])
		if err == io.EOF {
			out, err := bend(c, n, k, nil)
			if err == nil {
				_, err = c.Write(out)
			}
			return err
		}
		if err != nil {
			return err
		}
		have += got
		out = out[:0]
		frames := buf[:have]
		for ; len(frames) >= 4; frames = frames[4:] {
			if string(frames[:4]) != "ping" {
				return io.ErrUnexpectedEOF
			}
			pong, err := bend(c, n, k, []byte("pong"))
			if err != nil {
				return err
			}
			out = append(out, pong...)
			k++
		}
		have = copy(buf, frames)
		if _, err := c.Write(out); err != nil {
			return err
		}
	}
}

func openFiles() int {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return len(fds)
}

// eventually waits for up to 5 s until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 5 s: %s", what)
		}
	}
}
