//go:build !linux

package linux

// Moving sockets with proof takes epoll, pidfds, memfds, SO_COOKIE and TCP_INFO.
var _ = baton_runs_on_Linux_only
