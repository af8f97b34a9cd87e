package wire

// For docs_test.go, which is outside the package because it compares docs/protocol.md with package conn, too.

const (
	Magic      = magic
	HeaderSize = headerSize
)

// HasDescriptors reports whether messages of this type come with descriptors, by the samples that are golden.
func HasDescriptors(t Type) bool {
	for _, s := range samples {
		if s.m.Type() == t && fds(s.m) > 0 {
			return true
		}
	}
	return false
}
