package rival

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"baton/internal/mono"
	"baton/tests/bench/internal/figure"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// The ways to move a plain server's connections. Each is stop-and-send: the goroutine that reads is stopped, the socket and what had been
// read of a frame are sent, and the other process makes a net.Conn of it and starts a goroutine.
const (
	OnePerMessage = "one"  // all over one channel, a message for each; answered once, at the end
	OnePerDial    = "dial" // each over a channel of its own, which is dialled for it, and answered with its new number: MOSN's way
)

// A header goes ahead of what had been read: when the connection was stopped, in monotonic ns, and whether each message is answered.
const headerSize = 9

// maxPending is what a frame can have left behind.
const maxPending = 64

// Give moves all connections to whoever Receives at the path, and returns how long that took: from the first stop to the last answer.
func (p *Plain) Give(way, path string) (ns int64, err error) {
	conns := p.all()
	began := mono.Now()
	if way == OnePerDial {
		err = giveByDials(conns, path)
	} else {
		err = giveByMessages(conns, path)
	}
	took := mono.Now() - began
	for _, c := range conns {
		c.TCPConn.Close()
	}
	return took, err
}

func giveByMessages(conns []*plainConn, path string) error {
	to, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		return err
	}
	defer to.Close()
	for _, c := range conns {
		if err := c.sendTo(to, false); err != nil {
			return err
		}
	}
	if _, err := to.Write([]byte("end")); err != nil {
		return err
	}
	return expectAck(to)
}

// dialsAtOnce is how many connections move at a time: enough to keep both processes busy.
const dialsAtOnce = 8

func giveByDials(conns []*plainConn, path string) error {
	var (
		next   atomic.Int64
		movers sync.WaitGroup
		errs   = make([]error, dialsAtOnce)
	)
	for i := range errs {
		movers.Go(func() {
			for errs[i] == nil {
				n := int(next.Add(1)) - 1
				if n >= len(conns) {
					return
				}
				errs[i] = conns[n].moveByDial(path)
			}
		})
	}
	movers.Wait()
	return errors.Join(errs...)
}

func (c *plainConn) moveByDial(path string) error {
	to, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		return err
	}
	defer to.Close()
	if err := c.sendTo(to, true); err != nil {
		return err
	}
	return expectAck(to)
}

// sendTo stops a connection and sends it in one message.
func (c *plainConn) sendTo(to *net.UnixConn, answered bool) error {
	if err := c.stop(); err != nil {
		return err
	}
	message := binary.LittleEndian.AppendUint64(make([]byte, 0, headerSize+len(c.pending)), uint64(mono.Now()))
	if answered {
		message = append(message, 1)
	} else {
		message = append(message, 0)
	}
	message = append(message, c.pending...)
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	// Inside Control, since File().Fd() would switch the socket to blocking mode, for both processes.
	cerr := raw.Control(func(fd uintptr) { _, _, err = to.WriteMsgUnix(message, unix.UnixRights(int(fd)), nil) })
	return errors.Join(cerr, err)
}

func expectAck(from *net.UnixConn) error {
	var b [8]byte
	if n, err := from.Read(b[:]); n == 0 {
		return fmt.Errorf("no answer: %v", err)
	}
	return nil
}

// A Receiver takes connections into a plain server.
type Receiver struct {
	into *Plain
	ln   *net.UnixListener

	mu     sync.Mutex
	moved  int
	pauses *hdrhistogram.Histogram
}

// Receive listens at a path for connections, which may come either way.
func (p *Plain) Receive(path string) (*Receiver, error) {
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		return nil, err
	}
	r := &Receiver{into: p, ln: ln, pauses: figure.New()}
	go func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			go r.take(c)
		}
	}()
	return r, nil
}

// take takes what comes over one channel.
func (r *Receiver) take(from *net.UnixConn) {
	defer from.Close()
	data, oob := make([]byte, headerSize+maxPending), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := from.ReadMsgUnix(data, oob)
		if err != nil || n == 0 {
			return
		}
		if oobn == 0 { // the end of many
			from.Write([]byte("done"))
			return
		}
		if err := r.adopt(data[:n], oob[:oobn]); err != nil {
			fmt.Fprintln(os.Stderr, "receiving a connection:", err)
			return
		}
		if data[headerSize-1] == 1 {
			from.Write([]byte("done"))
		}
	}
}

// adopt makes a connection of a message.
func (r *Receiver) adopt(data, oob []byte) error {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(cmsgs) != 1 {
		return fmt.Errorf("%d control messages, %v", len(cmsgs), err)
	}
	fds, err := unix.ParseUnixRights(&cmsgs[0])
	if err != nil || len(fds) != 1 || len(data) < headerSize {
		return fmt.Errorf("%d descriptors, %d bytes, %v", len(fds), len(data), err)
	}
	f := os.NewFile(uintptr(fds[0]), "")
	defer f.Close() // FileConn has a copy
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	stoppedAt := int64(binary.LittleEndian.Uint64(data))
	r.into.serve(c.(*net.TCPConn), append([]byte(nil), data[headerSize:]...), stoppedAt, r.resumed)
	return nil
}

func (r *Receiver) resumed(pause int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moved++
	figure.Record(r.pauses, pause)
}

// Close ends receiving, and tells how many connections came and how long they had stood still.
func (r *Receiver) Close() (moved int, pauses figure.Dist) {
	r.ln.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moved, figure.DistOf(r.pauses)
}
