package load_test

import (
	"baton/internal/load"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	addr := os.Getenv("PONG")
	if addr == "" {
		t.Skip()
	}
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	l, err := load.Start(t.Context(), load.Config{Addr: addr, Interval: time.Second, Groups: []load.Group{{N: 5000}}})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	runtime.ReadMemStats(&b)
	fmt.Println("pre-GC stack/conn", (b.StackInuse-a.StackInuse)/5000, "heap/conn", (b.HeapAlloc-a.HeapAlloc)/5000)
	m := b.Mallocs
	fr := l.Live().Frames
	time.Sleep(2 * time.Second)
	runtime.ReadMemStats(&b)
	fmt.Println("allocs/frame", float64(b.Mallocs-m)/float64(l.Live().Frames-fr))
	runtime.GC()
	runtime.GC()
	time.Sleep(1500 * time.Millisecond)
	runtime.GC()
	runtime.ReadMemStats(&b)
	fmt.Println("post-GC stack/conn", (b.StackInuse-a.StackInuse)/5000, "heap/conn", (b.HeapAlloc-a.HeapAlloc)/5000)
	f, _ := os.Create("/tmp/pongd/heap.pb")
	pprof.Lookup("heap").WriteTo(f, 0)
	f.Close()
	l.Stop(t.Context())
}
