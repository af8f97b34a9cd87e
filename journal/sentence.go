package journal

import (
	"fmt"
	"strconv"
	"strings"
)

// sentence tells one event to an operator. Both sides of a handoff record its batches, so the verb goes by the teller's role.
func sentence(d Data, role string) string {
	giver := role == Predecessor
	switch d := d.(type) {
	case Started:
		return "started: pid " + strconv.Itoa(d.Run.PID) + versionOf(d.Run.Version, d.Run.Go)
	case Move:
		return d.From + " → " + d.To + because(d.Why)
	case Listener:
		return listenerSentence(d)
	case Sealed:
		return "journal sealed" + because(d.Why)
	case Handoff:
		return handoffSentence(d)
	case Hello:
		return fmt.Sprintf("HELLO from run %d (pid %d)%s", d.Run, d.PID, versionOf(d.Version, short(d.SHA256), strings.Join(d.Protocols, " ")))
	case Welcome:
		return fmt.Sprintf("WELCOME: %s, %s", plural(d.Listeners, "listener", "listeners"), plural(d.Sessions, "session", "sessions"))
	case Lend:
		return "lends copies of " + plural(len(d.Sessions), "socket", "sockets") + " ahead"
	case Offer:
		return batchSentence(d.Batch, giver != d.Back, "freezes and offers", "is offered", len(d.Sessions)) + wayBack(d.Back)
	case Take:
		receiver := "successor"
		if d.Back {
			receiver = "predecessor"
		}
		return batchSentence(d.Batch, giver == d.Back, "takes", "hears that the "+receiver+" takes", d.Count) + wayBack(d.Back) + refusals(d.Refused)
	case Give:
		return batchSentence(d.Batch, giver != d.Back, "gives", "serves", d.Count) + wayBack(d.Back) + paused("; ", d.Pause)
	case Done:
		return fmt.Sprintf("DONE: %s moved, %s, in %s (%s in all)", count(d.Moved), plural(d.Stragglers, "straggler", "stragglers"),
			millis(d.TookMS), millis(d.TotalMS)) + paused("; ", d.Pause)
	}
	return troubleSentence(d)
}

// wayBack tells a batch that goes back from one that comes.
func wayBack(back bool) string {
	if back {
		return " back"
	}
	return ""
}

// troubleSentence is sentence for what does not go well.
func troubleSentence(d Data) string {
	switch d := d.(type) {
	case Refused:
		return "refuses: " + d.Reason
	case Abort:
		return "ABORT: " + d.Reason
	case Returned:
		return "everything is back: " + plural(d.Moved, "session", "sessions")
	case Fence:
		return fmt.Sprintf("fences pid %d", d.PID)
	case PeerDied:
		return whose(d) + " died: " + d.How
	case Unsealed:
		return fmt.Sprintf("run %d has no end in its journal: it died after event %d", d.Run, d.FromSeq-1)
	case Verdict:
		return d.Verdict + ": " + plural(len(d.Sessions), "session", "sessions") + ", " + d.Sessions.String() + proof(d.By)
	case Closed:
		return closedSentence(d)
	case Bye:
		if d.PeerSeq == 0 {
			return "BYE"
		}
		return fmt.Sprintf("BYE: the peer's journal stands at event %d, %s", d.PeerSeq, short(d.PeerHead.String()))
	case Gap:
		return plural(d.Lost, "event is", "events are") + " missing: the journal could not be written"
	case Withdrawn:
		return fmt.Sprintf("event %d did not happen: nobody waited for it any more", d.Seq)
	case Aside:
		return fmt.Sprintf("set %s aside as %s: %s", d.File, d.As, d.Reason)
	case Unknown:
		return d.Name + " " + string(d.JSON)
	}
	return d.Kind()
}

// whose names a process that may have died before it said its number.
func whose(d PeerDied) string {
	if d.Run == 0 {
		return fmt.Sprintf("pid %d", d.PID)
	}
	return fmt.Sprintf("run %d (pid %d)", d.Run, d.PID)
}

func handoffSentence(d Handoff) string {
	if d.Role == Successor {
		return fmt.Sprintf("handoff %s: successor of run %d (pid %d)", d.ID, d.PeerRun, d.PeerPID)
	}
	s := "handoff " + d.ID
	if d.Check {
		s = "dry run of handoff " + d.ID
	}
	if d.Trigger != "" {
		s += ", asked for by " + d.Trigger
	}
	if d.Binary != "" {
		s += ": starts " + d.Binary
	}
	return s
}

func listenerSentence(d Listener) string {
	s := d.How + " " + d.URL
	if d.Addr != "" {
		s += " at " + d.Addr
	}
	return s
}

func batchSentence(batch int, active bool, does, undergoes string, n int) string {
	verb := undergoes
	if active {
		verb = does
	}
	return fmt.Sprintf("batch %d: %s %s", batch, verb, count(n))
}

func proof(by string) string {
	if by == "" {
		return ""
	}
	return " (proved by the " + by + ")"
}

func closedSentence(d Closed) string {
	s := fmt.Sprintf("session %s closed: %s; read %s, written %s", d.Session, d.Reason, count(d.Read), count(d.Written))
	if d.Witness != nil {
		s += fmt.Sprintf(" (the kernel says %s and %s)", count(d.Witness.Read), count(d.Witness.Written))
	}
	return s
}

func refusals(rs []Refusal) string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "; not %s (%s)", r.Sessions, r.Reason)
	}
	return b.String()
}

// paused tells a distribution, after sep; nothing for nil.
func paused(sep string, p *Pause) string {
	if p == nil {
		return ""
	}
	s := sep + "pause p50 " + micros(p.P50) + ", p99 " + micros(p.P99)
	if p.P999 != 0 {
		s += ", p99.9 " + micros(p.P999)
	}
	return s + ", max " + micros(p.Max)
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// versionOf lists what is known of a binary.
func versionOf(parts ...string) string {
	s := ""
	for _, p := range parts {
		if p != "" {
			s += ", " + p
		}
	}
	return s
}

// short is the beginning of a hash.
func short(hash string) string { return hash[:min(8, len(hash))] }

// count writes a number with commas: 12,345.
func count[T ~int | ~uint64](n T) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural[T ~int | ~uint64](n T, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// micros writes a duration given in µs.
func micros(us int64) string {
	switch {
	case us < 1_000:
		return fmt.Sprintf("%d µs", us)
	case us < 1_000_000:
		return fmt.Sprintf("%.1f ms", float64(us)/1e3)
	}
	return fmt.Sprintf("%.2f s", float64(us)/1e6)
}

// millis writes a duration given in ms.
func millis(ms float64) string { return micros(int64(ms * 1e3)) }
