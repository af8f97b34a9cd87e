// Package protocol holds both sides of the conversation in which a server hands over its sessions, as machines without I/O: each is
// given what has happened and answers with what to say and do next. Real sockets, sessions, clocks and processes are driven by package
// handoff.
//
//	predecessor                                         successor
//	                     ←  HELLO       I am ready
//	WELCOME   listeners  →
//	LEND k    sockets    →              registers them
//	OFFER     states     →              checks and loads them      sessions are frozen
//	                     ←  TAKE        ids                        from OFFER ...
//	GIVE      ids        →              serves                     ... to GIVE
//	    LEND, OFFER, TAKE and GIVE repeat, overlapping, until nothing is left
//	DONE      I do not accept any more  →
//	                     ←  DONE        I accept
//	    stragglers follow one by one; copies of the sockets are kept, and BEATs asked for
//	BYE       copies are dropped        →
//	                     ←  BYE
//
// CLOSED goes either way for sessions that end meanwhile, ABORT for a handoff that does.
//
// The machines are deterministic: the same inputs give the same outputs. They are not safe for concurrent use.
package protocol
