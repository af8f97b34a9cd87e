package handoff_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"baton/handoff/wire"
)

// A process that wants to take over, will not do, and does not go when it is told: nobody waits for it.
func TestUnfitVisitorStays(t *testing.T) {
	dir := workspace(t)
	a := start(t, dir, nil)
	a.serving()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: filepath.Join(dir, "conn.sock")})
	if err != nil {
		t.Fatal(err)
	}
	visitor, err := wire.NewChannel(c, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer visitor.Close()
	if err := visitor.Send(&wire.Hello{Versions: []uint8{99}, Run: 2, Takeover: true, SHA256: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	if m, _, err := visitor.Receive(); err != nil || m.Type() != wire.TAbort {
		t.Fatalf("it is told %v, %v", m, err)
	}
	a.stop()
	ended := make(chan error, 1)
	go func() { ended <- a.gone() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		visitor.Close()
		t.Error("the server does not stop")
		<-ended
	}
}
