//go:build race

package protocol

// raceDetector makes everything ten times as slow. Where nothing runs at the same time it finds nothing.
const raceDetector = true
