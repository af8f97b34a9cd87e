package conn_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"baton/conn"
	"baton/conn/ping"

	"golang.org/x/sys/unix"
)

// The way there and back of one frame, and of as many as fit into the sockets.
func BenchmarkPing(b *testing.B) {
	s, err := conn.New(conn.Config{Run: 1, Protocols: []conn.Protocol{ping.Protocol()}, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := s.Listen("ping://127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s.Accept()
	for _, frames := range []int{1, 16 << 10} {
		b.Run(fmt.Sprint(frames), func(b *testing.B) {
			c, err := net.Dial("tcp", l.Addr.String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			out, in := bytes.Repeat([]byte("ping"), frames), make([]byte, 4*frames)
			b.SetBytes(int64(len(out)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(out); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What an idle session costs this process, in bytes, once it has been served: on the heap, and in memory that the kernel counts. The
// clients are bare sockets, which cost it a descriptor and no memory.
func BenchmarkIdleSession(b *testing.B) {
	for _, sessions := range []int{1000, 9000} {
		b.Run(fmt.Sprint(sessions), func(b *testing.B) {
			for b.Loop() {
				heap, rss := measureIdle(b, sessions)
				b.ReportMetric(heap, "heap-B/session")
				b.ReportMetric(rss, "rss-B/session")
			}
		})
	}
}

func measureIdle(b *testing.B, sessions int) (heap, rss float64) {
	s, err := conn.New(conn.Config{
		Run: 1, Protocols: []conn.Protocol{ping.Protocol()}, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := s.Listen("ping://127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s.Accept()
	clients := make([]int, sessions)
	heapBefore, rssBefore := memory(b)
	for i := range clients {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(fd)
		clients[i] = fd
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(l.Addr.Port()), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			b.Fatal(err)
		}
		unix.Write(fd, []byte("ping"))
	}
	var pong [4]byte
	for _, fd := range clients {
		if n, err := unix.Read(fd, pong[:]); n != 4 {
			b.Fatal(n, err)
		}
	}
	heapAfter, rssAfter := memory(b)
	return (heapAfter - heapBefore) / float64(sessions), (rssAfter - rssBefore) / float64(sessions)
}

// memory is what lives on the heap, and what of this process lies in memory; in bytes.
func memory(b *testing.B) (heap, rss float64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
		b.Fatal(err)
	}
	return float64(m.HeapAlloc), float64(resident * os.Getpagesize())
}
