//go:build steps

package step

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unicode"

	"golang.org/x/sys/unix"
)

var file = os.Getenv("BATON_STEP_FILE")

// plan is what BATON_STEP asks for.
var plan = func() (p struct {
	list       bool
	role, name string
	n          int
	action     string
}) {
	spec := os.Getenv("BATON_STEP")
	if spec == "" {
		return p
	}
	if file == "" {
		die("BATON_STEP needs BATON_STEP_FILE")
	}
	if p.list = spec == "list"; p.list {
		return p
	}
	parts := strings.Split(spec, "/")
	if len(parts) != 4 {
		die("BATON_STEP=%q is not ROLE/NAME/N/ACTION", spec)
	}
	p.role, p.name, p.action = parts[0], parts[1], parts[3]
	var err error
	if p.n, err = strconv.Atoi(parts[2]); err != nil || p.n < 1 {
		die("BATON_STEP=%q: %q is not a number of times", spec, parts[2])
	}
	if p.role != "predecessor" && p.role != "successor" {
		die("BATON_STEP=%q: nobody is a %q", spec, p.role)
	}
	if p.action != "kill" && p.action != "stop" && p.action != "panic" {
		die("BATON_STEP=%q: %q is none of kill, stop, panic", spec, p.action)
	}
	return p
}()

func die(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "step: "+format+"\n", args...)
	os.Exit(2)
}

var (
	mu     sync.Mutex
	passed int
	turned = map[string]bool{} // by role: its newest handoff is on the way back
)

// At is passed by a process in a role.
func At(role string, when When, what any) {
	if !plan.list && plan.action == "" {
		return
	}
	switch name := placed(role, name(when, what)); {
	case plan.list:
		note(role, name)
	case plan.role == role && plan.name == name:
		act()
	}
}

// placed puts "back-" before the names of what is passed on the way back.
func placed(role, name string) string {
	mu.Lock()
	defer mu.Unlock()
	switch name {
	case "on-begin":
		turned[role] = false
	case "on-abort", "before-send-abort":
		turned[role] = true
	}
	if turned[role] {
		return "back-" + name
	}
	return name
}

func note(role, name string) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		die("%v", err)
	}
	defer f.Close()
	fmt.Fprintf(f, "%d %s %s\n", os.Getpid(), role, name)
}

func act() {
	mu.Lock()
	passed++
	now := passed == plan.n
	mu.Unlock()
	if !now {
		return
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return // it has happened
	}
	fmt.Fprintln(f, os.Getpid())
	f.Close()
	switch plan.action {
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "stop":
		// To this thread, or it may go on for a moment, until another one has taken the signal.
		runtime.LockOSThread()
		unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
		runtime.UnlockOSThread()
	case "panic":
		panic("step: " + plan.role + " " + plan.name)
	}
}

// name makes a name of a type, and of what it is about.
func name(when When, what any) string {
	v := reflect.ValueOf(what)
	kind := hyphenated(v.Type().Name())
	if v.Kind() == reflect.Struct {
		if m := v.FieldByName("Message"); m.IsValid() {
			message := hyphenated(m.Elem().Type().Elem().Name())
			if when == On {
				return "on-" + message
			}
			kind += "-" + message
		} else if to := v.FieldByName("To"); to.IsValid() {
			kind += "-" + hyphenated(to.String())
		} else if timer := v.FieldByName("Timer"); timer.IsValid() {
			kind = timer.String() + "-timer"
		}
	}
	return string(when) + "-" + kind
}

func hyphenated(camel string) string {
	var b strings.Builder
	for i, r := range camel {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
