package protocol

// What time, and the operator, have to say to the predecessor.

func (p *Predecessor) expired(t Timer) {
	switch t {
	case HelloTimer:
		if p.step == greeting {
			p.abort("the successor did not become ready in time")
			p.silent = true
		}
	case AnswerTimer:
		p.unanswered()
	case TotalTimer:
		if p.step == moving || p.step == finishing {
			p.abort("the handoff took too long")
		}
	case RetryTimer:
		p.giver.tryAgain()
		p.pump()
	case DrainTimer:
		if p.step == draining {
			p.hurry()
		}
	case FinishTimer:
		p.abandon()
	case ProbationTimer:
		p.waitedLong = true
		p.pump()
	case BeatTimer:
		p.askBeat()
	case ReturnTimer:
		if p.step == returning {
			p.giveUpOn("it did not give everything back in time")
		}
	case ExitTimer:
		if (p.step == aborting || p.step == fencing) && !p.died {
			p.do(Fence{p.reason})
		}
	}
}

func (p *Predecessor) unanswered() {
	switch {
	case p.step == agreeing, p.step == finishing, (p.step == moving || p.step == draining) && len(p.giver.offers) > 0:
		p.distrust("the successor did not answer in time while " + string(p.step))
	case p.step == parting:
		p.do(Report{"the successor did not answer BYE in time"})
		p.depart("probation is over")
	}
}

// stop: the process is asked to end. Once DONE was said, the successor carries on, and we only have to leave it what is left.
func (p *Predecessor) stop() {
	p.stopped = true
	switch p.step {
	case greeting, agreeing, moving:
		p.abort("the server was asked to stop")
	case draining:
		p.hurry()
	}
}
