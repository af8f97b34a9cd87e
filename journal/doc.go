// Package journal keeps what happened to a server: a file for every run, written by that run alone.
//
//	j, err := journal.Create(dir, journal.Run{Binary: path, Version: version}, journal.Options{})
//	if err != nil { … }
//	defer j.Close()
//
//	j.Record(journal.Listener{URL: url, Addr: addr, How: journal.Bound})     // trails by 50 ms at most
//	err = j.Commit(ctx, journal.Move{From: "Serving", To: "Preparing"})      // in the file before the act
//	j.Opened(journal.Session{ID: id, Peer: peer, Protocol: "ping"})          // a row, not an event
//
// Afterwards, or meanwhile, the runs' files are read and told as one story, as the flight recorders of two aircraft are:
//
//	logs, err := journal.ReadAll(dir, live)
//	fmt.Print(journal.Replay(logs, check).Text())
//
// # Promises
//
//   - Intent ahead, outcome behind: when [Journal.Commit] returns nil or [Journal.Intend] answers nil, the event is in the file. Everything
//     else may trail by one group commit.
//   - Nothing but Commit, Snapshot and Close waits for the disk. While it is full or does not answer, memory stays bounded: a session has one
//     row however often it changes, and events beyond a limit are counted in a [Gap]. [Journal.Err] says why, and when it is over.
//   - An event that was reported as not in the file never counts: it is not written, or taken back by a [Withdrawn].
//   - Each event holds the hash of the one before, so that no line can be changed, dropped or moved without every later one showing it.
//   - A finished file never changes, and none is ever deleted but by [Prune]. What cannot be read gets another name and is reported.
//   - What a session carries is never written.
//
// # Caveats
//
// Linux only. A process that dies, even by SIGKILL, leaves its writes to the kernel, and they are in the file. They are forced to the
// device only after a quiet moment, at the end of a handoff and at Close: a machine that crashes may lose the last second, and may tear the
// file. No TCP connection is left then for which it would matter.
//
// A live run's file is locked, and is read through [Journal.Snapshot]. The hash chain shows carelessness and damage, not malice: whoever may
// write the file may write a new chain. docs/journal.md describes the format.
package journal

import _ "baton/internal/linux"
