// Package step names the steps of a handoff, so that a test can end, stop or break a process at any of them. In an ordinary build there is
// nothing of it; a build with the tag "steps" looks at the environment:
//
//	BATON_STEP=list                     every step that is passed is added to the file, a line each: pid, role, name
//	BATON_STEP=ROLE/NAME/N/ACTION       when a process passes the step for the N-th time in this role: kill, stop or panic
//	BATON_STEP_FILE=PATH                the file of "list"; with an action it is made when that is about to happen, and says by which pid.
//	                                    Where it is there already, nothing happens: one action for all processes that inherit this
//
// Names are made of what is passed, so that none has to be given, and none can be forgotten: an input that came from outside the process
// (on-take, on-beat-timer, on-peer-died), and something to do, before and after it is done (before-send-give, after-freeze).
// From the first ABORT that a side says or hears, all its names begin with "back-" (back-before-take), until its next handoff.
package step

// When says where a step is: before something is done, after it, or on something that has come.
type When string

const (
	On     When = "on"
	Before When = "before"
	After  When = "after"
)
