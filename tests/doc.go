// Package tests holds what needs several real processes: servers that start, upgrade, fail and are killed, and clients that must not
// notice. Everything runs in workspaces of its own, on 127.0.0.1, and each test ends by looking for what it may have left behind:
// processes, sockets, descriptors.
//
// Tests that mount file systems are skipped for anybody but root; those that need python3, mke2fs, losetup or unshare, where it is missing,
// unless CI is set in the environment.
//
// With -race the server is built with the race detector, too.
package tests
