// Package wire defines what two runs of a server say to each other, and the channel that carries it together with sockets.
//
// The channel is a Unix socket of type SOCK_SEQPACKET: one message is one frame, and the descriptors that belong to it arrive with it.
// A frame is a header of 12 bytes and a payload, which is CBOR with integer keys. docs/protocol.md has the table, testdata the golden
// bytes, and a test keeps the three equal.
//
//	0        4         5      6        8               12
//	+--------+---------+------+--------+----------------+---------
//	| "BATN" | version | type | flags  | payload length | payload
//	+--------+---------+------+--------+----------------+---------
//
// Numbers are big-endian. A payload of more than 64 KiB travels in a sealed memfd, which is then the frame's last descriptor.
//
// The header, and the payloads of HELLO, WELCOME and ABORT, never change, so that two versions can always greet each other and say why
// they part.
package wire

import _ "baton/internal/linux"
