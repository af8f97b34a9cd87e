package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pongServer answers pings until the test ends. From the given pong on, counted over all connections, it answers wrongly; 0 = never.
func pongServer(t *testing.T, wrongFrom int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		sent int
	)
	answer := func() string {
		mu.Lock()
		defer mu.Unlock()
		if sent++; wrongFrom > 0 && sent >= wrongFrom {
			return "pang"
		}
		return "pong"
	}
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for buf := make([]byte, 4); ; {
					if _, err := io.ReadFull(c, buf); err != nil {
						return
					}
					if _, err := io.WriteString(c, answer()); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func TestRun(t *testing.T) {
	good, bad := pongServer(t, 0), pongServer(t, 20)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for _, tc := range []struct {
		name           string
		args           string
		code           int
		stdout, stderr []string // what each must say
	}{
		{"plain", "-n 10 -d 300ms -interval 20ms -addr " + good, 0,
			[]string{"10 plain connections to " + good, "dropped                  0", "p99.9", "overall", "second 0"}, nil},
		{"all behaviours", "-n 3 -d 300ms -interval 20ms -split -slow -churn -addr " + good, 0,
			[]string{"3 split+slow+churn connections"}, nil},
		{"wrong bytes", "-n 2 -d 300ms -interval 5ms -addr " + bad, 1, []string{"wrong bytes", `is "ang"`, "the first 2 failures"}, nil},
		{"nobody there", "-addr " + gone.Addr().String(), 1, nil, []string{"connection refused; is the server running there? -addr names another"}},
		{"too many", "-n 99999999 -addr " + good, 1, nil, []string{`raise "ulimit -n"`}},
		{"help", "-h", 0, nil, []string{"-interval"}},
		{"unknown flag", "-fast", 2, nil, []string{"-fast"}},
		{"argument", "localhost:7000", 2, nil, []string{`unexpected argument "localhost:7000"`}},
		{"no connections", "-n 0", 2, nil, []string{"-n 0"}},
		{"negative time", "-d -1s", 2, nil, []string{"-d -1s"}},
		{"no interval", "-interval 0", 2, nil, []string{"-interval 0s"}},
		{"no patience", "-patience 0", 2, nil, []string{"-patience 0s"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), strings.Fields(tc.args), &stdout, &stderr); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			says(t, "stdout", stdout.String(), tc.stdout)
			says(t, "stderr", stderr.String(), tc.stderr)
		})
	}
}

// says wants every part in the text; without parts, it wants no text.
func says(t *testing.T, name, text string, parts []string) {
	t.Helper()
	if len(parts) == 0 && text != "" {
		t.Errorf("%s is not empty:\n%s", name, text)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not say %q:\n%s", name, part, text)
		}
	}
}

func TestInterruptReportsEarly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	began := time.Now()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"-n", "5", "-d", "0", "-interval", "10ms", "-json", "-addr", pongServer(t, 0)}, &stdout, &stderr)
	if took := time.Since(began); code != 0 || took > 3*time.Second {
		t.Fatalf("exit code %d after %v: %s", code, took, &stderr)
	}
	var r struct {
		OK       bool
		Frames   int64
		Failures []any
		Latency  struct{ Count, P50, P99, P999, Max int64 } `json:"latency_ns"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if !r.OK || r.Frames < 50 || r.Failures == nil || r.Latency.Count == 0 || r.Latency.P50 == 0 || r.Latency.P50 > r.Latency.Max {
		t.Errorf("%s", &stdout)
	}
}

func TestReportThatCannotBeWritten(t *testing.T) {
	full := errors.New("disk full")
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-n", "1", "-d", "1ms", "-addr", pongServer(t, 0)}, failing{full}, &stderr); code != 1 {
		t.Errorf("exit code %d", code)
	}
	says(t, "stderr", stderr.String(), []string{"write the report: disk full"})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                          "0s",
		999:                        "999ns",
		84_213:                     "84.2µs",
		1_234_567:                  "1.23ms",
		123_456_789:                "123ms",
		12_345 * time.Millisecond:  "12.3s",
		100_000 * time.Millisecond: "1m40s",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%d) = %q, want %q", d, got, want)
		}
	}
}
