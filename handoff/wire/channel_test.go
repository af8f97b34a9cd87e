package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
)

func receive(t testing.TB, c *Channel) (Message, []int) {
	t.Helper()
	m, fds, err := c.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return m, fds
}

func TestDescriptorsArriveWithTheirMessage(t *testing.T) {
	a, b := pair(t, time.Second)
	var sent []int
	for i := range 3 {
		fd, err := unix.MemfdCreate(fmt.Sprint("socket", i), unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		unix.Write(fd, []byte{byte(i)})
		sent = append(sent, fd)
	}
	if err := a.Send(lend(1, 1, 3), sent...); err != nil {
		t.Fatal(err)
	}
	m, got := receive(t, b)
	defer closeAll(got)
	if !reflect.DeepEqual(m, lend(1, 1, 3)) || len(got) != 3 {
		t.Fatalf("received %+v with %v", m, got)
	}
	for i, fd := range got {
		var content [1]byte
		if _, err := unix.Pread(fd, content[:], 0); err != nil || content[0] != byte(i) {
			t.Errorf("descriptor %d is another: %v, %v", i, content, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d would be inherited by children", i)
		}
	}
}

func TestMostDescriptors(t *testing.T) {
	a, b := pair(t, time.Second)
	if err := a.Send(lend(1, 1, MaxFDs), nullFDs(t, MaxFDs)...); err != nil {
		t.Fatal(err)
	}
	_, got := receive(t, b)
	defer closeAll(got)
	if len(got) != MaxFDs {
		t.Errorf("%d descriptors came of %d", len(got), MaxFDs)
	}
}

// bigOffer has a payload of about size bytes.
func bigOffer(seq, size int) *Offer {
	state, err := encoding.Marshal(bytes.Repeat([]byte{byte(seq)}, size))
	if err != nil {
		panic(err)
	}
	return &Offer{Seq: seq, IDs: []ID{1}, States: []cbor.RawMessage{state}}
}

func TestSizes(t *testing.T) {
	a, b := pair(t, 5*time.Second)
	for i, size := range []int{0, 1, MaxInline - 30, MaxInline - 17, MaxInline - 16, MaxInline - 15, MaxInline, MaxInline + 1, 1 << 20, MaxPayload - 100} {
		want := bigOffer(i+1, size)
		if err := a.Send(want); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if got, fds := receive(t, b); !reflect.DeepEqual(got, want) || len(fds) != 0 {
			t.Errorf("%d bytes: another message came, with %d descriptors", size, len(fds))
		}
	}
	// The payload of a message with descriptors is the last of them.
	w := &Welcome{Version: 1, Listeners: []string{string(bytes.Repeat([]byte("x"), MaxInline))}}
	if err := a.Send(w, nullFDs(t, 3)...); err != nil {
		t.Fatal(err)
	}
	got, fds := receive(t, b)
	defer closeAll(fds)
	if !reflect.DeepEqual(got, w) || len(fds) != 3 {
		t.Errorf("another WELCOME came, with %d descriptors", len(fds))
	}
}

// TestMessagesDoNotShare: a message that was received stays what it is when the next one comes.
func TestMessagesDoNotShare(t *testing.T) {
	a, b := pair(t, time.Second)
	a.Send(bigOffer(1, 100))
	a.Send(bigOffer(2, 100))
	first, _ := receive(t, b)
	receive(t, b)
	if !reflect.DeepEqual(first, bigOffer(1, 100)) {
		t.Error("the second message has overwritten the first")
	}
}

func TestSendOfTheImpossible(t *testing.T) {
	for name, send := range map[string]func(c *Channel) error{
		"too large":                func(c *Channel) error { return c.Send(bigOffer(1, MaxPayload)) },
		"too few descriptors":      func(c *Channel) error { return c.Send(lend(1, 1, 3), nullFDs(t, 2)...) },
		"too many descriptors":     func(c *Channel) error { return c.Send(lend(1, 1, MaxFDs+1), nullFDs(t, MaxFDs+1)...) },
		"descriptors without need": func(c *Channel) error { return c.Send(&Bye{}, nullFDs(t, 1)...) },
	} {
		a, b := pair(t, time.Second)
		b.Send(&Beat{N: 1})
		err := send(a)
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", name, err)
		}
		// What follows would make no sense without it. What came before is still heard, and then both sides know.
		if again := a.Send(&Bye{}); again != err {
			t.Errorf("%s: then Send = %v", name, again)
		}
		if m, _, err := a.Receive(); err != nil || m.Type() != TBeat {
			t.Errorf("%s: then Receive = %v, %v", name, m, err)
		}
		if _, _, again := a.Receive(); again != err {
			t.Errorf("%s: then Receive = %v", name, again)
		}
		if _, _, err := b.Receive(); err != io.EOF {
			t.Errorf("%s: the other side: %v, want io.EOF", name, err)
		}
	}
}

// TestDescriptorThatIsClosed: the kernel refuses it, and nothing half is sent.
func TestDescriptorThatIsClosed(t *testing.T) {
	a, b := pair(t, time.Second)
	fds := nullFDs(t, 3)
	if err := a.Send(lend(1, 1, 3), fds[0], fds[1], 1<<20); !errors.Is(err, unix.EBADF) {
		t.Errorf("Send = %v, want EBADF", err)
	}
	if _, _, err := b.Receive(); err != io.EOF {
		t.Errorf("the other side received %v", err)
	}
}

// TestBothSendMuch: two sides that only write, for a while, must not wait for each other (TRAPS.md).
func TestBothSendMuch(t *testing.T) {
	a, b := pair(t, 10*time.Second)
	const n = 300
	fds := nullFDs(t, 20)
	for _, c := range []*Channel{a, b} {
		for i := range n {
			m, with := Message(bigOffer(i+1, []int{10, 30_000, 70_000}[i%3])), []int(nil)
			if i%7 == 0 {
				m, with = lend(i+1, 1, len(fds)), fds
			}
			if err := c.Send(m, with...); err != nil {
				t.Fatal(err)
			}
		}
	}
	var readers sync.WaitGroup
	for _, c := range []*Channel{a, b} {
		readers.Go(func() {
			for i := range n {
				m, fds, err := c.Receive()
				closeAll(fds)
				if err != nil {
					t.Error(err)
					return
				}
				seq := 0
				switch m := m.(type) {
				case *Offer:
					seq = m.Seq
				case *Lend:
					seq = m.Batch
				}
				if seq != i+1 {
					t.Errorf("message %d came in place of %d", seq, i+1)
					return
				}
			}
		})
	}
	readers.Wait()
	a.Flush()
	b.Flush()
}

func fillSocket(t *testing.T, c *Channel) (n int) {
	t.Helper()
	for ; ; n++ {
		c.mu.Lock()
		waits := c.sending
		c.mu.Unlock()
		if waits {
			return n
		}
		if err := c.Send(bigOffer(n+1, 50_000)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReaderThatNeverReads(t *testing.T) {
	a, b := pair(t, 50*time.Millisecond)
	b.Send(&Abort{Code: Failed, Reason: "last words"})
	fillSocket(t, a)
	a.Send(&Offer{Seq: 1, IDs: []ID{1}, States: bigOffer(1, 70_000).States}) // a memfd waits in the queue, too
	began := time.Now()
	a.Flush()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Flush took %v", took)
	}
	if err := a.Send(&Bye{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Send = %v, want the timeout", err)
	}
	if m, _, err := a.Receive(); err != nil || m.Type() != TAbort {
		t.Errorf("what came before: %v, %v", m, err)
	}
	if _, _, err := a.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Receive = %v, want the timeout", err)
	}
}

// TestSlowReader: a timeout is for one message, and one that was waited for leaves no deadline behind.
func TestSlowReader(t *testing.T) {
	const timeout = 500 * time.Millisecond
	a, b := pair(t, timeout)
	n := fillSocket(t, a)
	for i := range 16 {
		a.Send(bigOffer(n+i+1, 50_000))
	}
	for range n + 16 { // together they wait for longer than the timeout
		time.Sleep(timeout / 10) // and each until the kernel says that there is room, which is at three quarters
		receive(t, b)
	}
	a.Flush()
	time.Sleep(timeout + timeout/2)
	if err := a.Send(&Bye{Seq: 1}); err != nil {
		t.Fatalf("Send, long after the queue was empty: %v", err)
	}
	if m, _ := receive(t, b); m.Type() != TBye {
		t.Errorf("received %v", m)
	}
}

// TestLastWords: what a side has said before it left is heard, whether or not it had read what was said to it, and though something was
// said to it after it had left.
func TestLastWords(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, a *Channel){
		"nothing was unread":   func(t *testing.T, a *Channel) {},
		"something was unread": func(t *testing.T, a *Channel) { a.Send(lend(1, 1, 3), nullFDs(t, 3)...) },
	} {
		for name2, after := range map[string]func(a *Channel){
			"nothing is said": func(a *Channel) {},
			"we go on":        func(a *Channel) { a.Send(&Beat{N: 1}); a.Send(&Beat{N: 2}); a.Flush() },
		} {
			t.Run(name+", "+name2, func(t *testing.T) {
				a, b := pair(t, time.Second)
				before(t, a)
				b.Send(&Closed{IDs: []ID{1}})
				b.Send(&Abort{Code: Refused, Reason: "because"})
				b.Close()
				after(a)
				if m, _ := receive(t, a); m.Type() != TClosed {
					t.Errorf("received %v", m)
				}
				if m, _ := receive(t, a); m.(*Abort).Reason != "because" {
					t.Errorf("received %v", m)
				}
				if _, _, err := a.Receive(); err != io.EOF {
					t.Errorf("Receive = %v, want io.EOF", err)
				}
			})
		}
	}
}

func TestClose(t *testing.T) {
	a, b := pair(t, time.Minute)
	fillSocket(t, a)
	a.Send(bigOffer(9, 70_000))
	received := make(chan error)
	go func() { _, _, err := a.Receive(); received <- err }()
	flushed := make(chan bool)
	go func() { a.Flush(); close(flushed) }()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if a.mu.Lock(); a.sending {
		t.Error("Close returned before the goroutine that sends has ended")
	}
	a.mu.Unlock()
	if err := a.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	<-flushed
	if err := <-received; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive = %v, want net.ErrClosed", err)
	}
	if err := a.Send(&Bye{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send = %v, want net.ErrClosed", err)
	}
	b.Close()
}

// TestRaces is for the race detector: everything at once, and Close at any moment.
func TestRaces(t *testing.T) {
	for range 50 {
		a, b := pair(t, time.Minute)
		fds := nullFDs(t, 2)
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for n := range 20 {
					a.Send(bigOffer(n+1, []int{10, 50_000, 70_000}[i%3]))
					a.Send(lend(n+1, 1, 2), fds...)
					a.Flush()
				}
			})
		}
		all.Go(func() {
			for range 100 {
				_, fds, err := b.Receive()
				closeAll(fds)
				if err != nil {
					return
				}
			}
		})
		all.Go(func() {
			time.Sleep(time.Millisecond)
			a.Close()
			b.Close()
		})
		all.Wait()
	}
}

// TestTooManyInFlight: descriptors on their way are counted per user (ETOOMANYREFS), but not for root.
func TestTooManyInFlight(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("the kernel does not count root's")
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	fds := nullFDs(t, 100)
	a, b := pair(t, 5*time.Second)
	low := old
	low.Cur = 300
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	for i := range 6 {
		if err := a.Send(lend(i+1, 1, 100), fds...); err != nil {
			t.Fatal(err)
		}
	}
	for range 6 {
		_, fds := receive(t, b)
		closeAll(fds)
	}
}
