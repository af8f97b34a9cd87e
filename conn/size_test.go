package conn

import (
	"testing"
	"unsafe"
)

// The memory of an idle session is above all its Conn, and Go's allocator has 256 bytes and then 288.
func TestConnFitsItsSizeClass(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 256 {
		t.Errorf("a Conn takes %d bytes, want at most 256", n)
	}
}
