// Package handoff runs a server that hands its listeners and its live connections to its own next version.
//
//	err := handoff.Run(ctx, handoff.Config{
//		Workspace: "/run/myserver",                  // a directory for this server alone
//		Listen:    []string{"ping://:7000"},         // protocol://host:port
//		Protocols: []conn.Protocol{ping.Protocol()}, // see package conn and docs/handlers.md
//	})
//
// Each process is a run; the runs of a workspace are numbered. When an upgrade is asked for, by SIGUSR2, by Client.Upgrade or by POST
// /upgrade on the control socket, the run that serves starts the program again, with the arguments it was itself started with. There
// Run finds out that it is a successor, and takes over before it calls Config.Ready; here Run returns nil when the successor needs it no
// more. The program does nothing for it but call Run early, with what its command line says.
//
// From elsewhere, a Client asks the run that serves a workspace how it is, or to upgrade. Replay tells from the journals what happened,
// also after the server has stopped or crashed.
//
// # Promises
//
//   - At any moment one process at most reads or writes a session. What was read and not consumed, accepted and not sent, the handler's
//     state and what is left of the timeouts go along.
//   - Until the first session is given, any failure of the successor ends with this run serving everything it had; Upgrade then returns a
//     Handoff that says why, and the next upgrade starts from the beginning.
//   - After that, a successor that fails and lives gives everything back, what it had accepted itself too. One that dies, or is silent and
//     therefore ended for certain, takes with it what it had accepted; a session that it was given goes on if what is known of it agrees
//     with the kernel's own byte counts, and is reset and named in the journal if not. A successor whose predecessor dies keeps what it was
//     given, and of the rest what agrees in the same way.
//   - Only processes of the user who owns the workspace are listened to.
//
// # Caveats
//
// Linux only, TCP only, on one machine, in one pid namespace and one time namespace. A process that is PID 1 starts no successor, since
// that would end with it.
//
// Run belongs to the process: it takes SIGUSR2 and SIGPIPE, it may set the umask for a moment, and in a successor it replaces standard
// error once it serves. The program is found by os.Args[0] as it was when the package was initialised.
//
// The pid of the server changes with each upgrade; Workspace/server.pid follows it.
//
// # Where to read
//
// run.go is a run from start to exit, and door.go where successors knock. giving.go and taking.go are the two sides of a handoff, side.go is
// what both do with sessions, and conversation.go drives the machines of handoff/protocol, which decide what to say and do next.
package handoff
