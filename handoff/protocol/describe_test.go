package protocol

import (
	"fmt"
	"strings"

	"baton/handoff/wire"
)

// describe says in a line what a message, an input or an output is, for transcripts.
func describe(v any) string {
	switch v := v.(type) {
	case wire.Message:
		return v.Type().String() + describeMessage(v)
	case Begin:
		return "begin" + note(v.Check, "check")
	case Received:
		return describe(v.Message)
	case Broken:
		return "broken: " + v.Reason
	case PeerDied:
		return "peer died: " + v.How
	case Ended:
		return "ended" + list(v.IDs)
	case Expired:
		return "expired " + string(v.Timer)
	case Moved:
		return "moved"
	case MoveRefused:
		return "move refused: " + v.Reason
	case Stop:
		return "stop"
	case Greeted:
		return "greeted" + list(v.Sessions)
	case Unfit:
		return "unfit: " + v.Reason
	case Journaled:
		return fmt.Sprintf("journaled %d", v.Batch)
	case NotJournaled:
		return fmt.Sprintf("not journaled %d: %s", v.Batch, v.Reason)
	case Lent:
		return fmt.Sprintf("lent %d:%s", v.Batch, list(v.IDs))
	case Frozen:
		s := "frozen" + list(v.IDs)
		if len(v.Busy) > 0 {
			s += ", busy" + list(v.Busy)
		}
		if len(v.Failed) > 0 {
			s += ", failed" + list(sortedKeys(v.Failed))
		}
		return s
	case Gave:
		return "gave" + note(len(v.Lates) > 0, fmt.Sprintf("with late output of %d", len(v.Lates)))
	case Opened:
		return "opened" + list(v.IDs)
	case NotAccepting:
		return "not accepting"
	case Adopted:
		return "adopted"
	case NotAdopted:
		return "not adopted: " + v.Reason
	case Borrowed:
		return "borrowed"
	case NotBorrowed:
		return "not borrowed: " + v.Reason
	case Took:
		return "took" + list(v.IDs) + refusals(v.Refused)
	case Promoted:
		return "promoted"
	case WentRound:
		return fmt.Sprintf("went round %d", v.N)
	case Part:
		return "part"

	case Send:
		return "send " + describe(v.Message)
	case Move:
		return "move to " + string(v.To) + note(v.Rescue, "as a rescue") + ": " + v.Why
	case SetTimer:
		return "set timer " + string(v.Timer)
	case Fence:
		return "fence: " + v.Reason
	case Accept:
		return "accept"
	case Report:
		return "report: " + v.Text
	case End:
		return fmt.Sprintf("END %s: %s", v.Result, v.Reason)
	case Greet:
		return "greet"
	case Intend:
		return fmt.Sprintf("intend %d:%s", v.Batch, list(v.IDs))
	case Lend:
		return fmt.Sprintf("lend %d:%s", v.Batch, list(v.IDs))
	case Freeze:
		return "freeze" + list(v.IDs)
	case Thaw:
		return "thaw" + list(v.IDs)
	case LetGo:
		return "let go" + list(v.IDs)
	case Detach:
		return "detach" + list(v.IDs)
	case Release:
		return "release" + list(v.IDs)
	case Unlend:
		return "unlend" + list(v.IDs)
	case StopAccepting:
		return "stop accepting"
	case Handed:
		return "handed"
	case Finish:
		return "finish" + list(v.IDs)
	case Recall:
		return "recall" + list(v.IDs)
	case Greeting:
		return "greeting"
	case Adopt:
		return "adopt"
	case Borrow:
		return "borrow" + list(v.Lend.IDs)
	case Take:
		return "take" + list(v.Offer.IDs)
	case Own:
		return "own" + list(v.Give.IDs)
	case Drop:
		return "drop" + list(v.IDs)
	case Rescue:
		return "rescue" + list(v.IDs)
	case Promote:
		return "promote"
	case GoRound:
		return fmt.Sprintf("go round %d", v.N)
	case Parted:
		return "PARTED"
	}
	panic(fmt.Sprintf("no words for %T", v))
}

func describeMessage(m wire.Message) string {
	switch m := m.(type) {
	case *wire.Welcome:
		return note(m.Check, "check")
	case *wire.Lend:
		return fmt.Sprintf(" %d:%s", m.Batch, list(m.IDs))
	case *wire.Offer:
		return fmt.Sprintf(" %d:%s", m.Seq, list(m.IDs))
	case *wire.Take:
		return fmt.Sprintf(" %d:%s", m.Seq, list(m.IDs)) + refusals(m.Refused)
	case *wire.Give:
		return fmt.Sprintf(" %d:%s", m.Seq, list(m.IDs))
	case *wire.Closed:
		return list(m.IDs)
	case *wire.Done:
		return fmt.Sprintf(" moved %d, stragglers %d", m.Moved, m.Stragglers)
	case *wire.Abort:
		return fmt.Sprintf(" %d: %s", m.Code, m.Reason)
	case *wire.Beat:
		return fmt.Sprintf(" %d", m.N)
	}
	return ""
}

func note(on bool, text string) string {
	if on {
		return " (" + text + ")"
	}
	return ""
}

func list(ids []ID) string {
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, " %d", id.N())
	}
	return b.String()
}

func refusals(refused []wire.Refusal) string {
	var b strings.Builder
	for _, r := range refused {
		fmt.Fprintf(&b, ", refused %d", r.ID.N())
	}
	return b.String()
}
