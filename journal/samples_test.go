package journal

import "time"

// samples has every kind of event, with every field set.
func samples() []Data {
	ids := IDs{uint64(id(7, 1)), uint64(id(7, 2)), uint64(id(7, 9))}
	pause := &Pause{P50: 19, P99: 80, P999: 120, Max: 1900}
	run := Run{Number: 7, PID: 812, Binary: "/srv/server", SHA256: "ab12", Version: "v1", Go: "go1.26", BootID: "b-1", Predecessor: 6,
		Started: time.Date(2026, 11, 24, 21, 27, 3, 412e6, time.UTC)}
	return []Data{
		Started{Run: run},
		Move{From: "Serving", To: "Preparing", Why: "SIGUSR2"},
		Listener{URL: "ping://:7000", Addr: "[::]:7000", How: Inherited},
		Sealed{Why: "SIGTERM"},
		Handoff{ID: "7-1", Role: Predecessor, Trigger: "SIGUSR2", Binary: "/srv/server", Check: true, PeerRun: 8, PeerPID: 845},
		Hello{Run: 8, PID: 845, Version: "v2", SHA256: "cd34", Wire: []int{1, 2}, Protocols: []string{"ping/1"}},
		Welcome{Listeners: 2, Sessions: 1000},
		Lend{Batch: 1, Sessions: ids},
		Offer{Batch: 1, Sessions: ids, Back: true},
		Take{Batch: 1, Count: 2, Refused: []Refusal{{Sessions: ids[:1], Reason: "state version 9"}}, Back: true},
		Give{Batch: 1, Count: 2, Pause: pause, Back: true},
		Done{Moved: 1000, Stragglers: 2, Pause: pause, TookMS: 41.25, TotalMS: 412.5},
		Bye{PeerSeq: 41, PeerHead: Hash{0xde, 0xad}},
		Refused{Reason: "lacks protocol echo"},
		Abort{Reason: "successor exited: exit status 1"},
		Returned{Moved: 2},
		Fence{PID: 845},
		PeerDied{Run: 8, PID: 845, How: "signal: killed"},
		Unsealed{Run: 7, FromSeq: 42},
		Verdict{Verdict: Recalled, Sessions: ids, By: "slate"},
		Closed{Session: id(7, 9), Reason: "position is not the witness's", Read: 100, Written: 200, Witness: &Positions{Read: 100, Written: 204}},
		Gap{Lost: 12},
		Withdrawn{Seq: 40},
		Aside{File: "000003.db", As: "000003.db.damaged", Reason: "journal: file is damaged"},
	}
}
