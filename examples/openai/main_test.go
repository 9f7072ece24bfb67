package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// Concurrency 64 against a server that allows 10 in flight and 60 requests a second: every call succeeds.
func TestEveryCallSucceeds(t *testing.T) {
	var out bytes.Buffer
	err := run(context.Background(), []string{"--config", "../../limits.toml", "--calls", "300", "--concurrency", "64"}, &out)
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "300 of 300 calls succeeded") {
		t.Errorf("not every call succeeded")
	}
}

func TestBadConfig(t *testing.T) {
	err := run(context.Background(), []string{"--config", "nowhere.toml"}, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "nowhere.toml") {
		t.Errorf("error %v, want it to name the file", err)
	}
}

// An interruption ends the program with one line, however many calls were to come; numbers that mean nothing are refused.
func TestInterruptAndBadNumbers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := run(ctx, []string{"--calls", "1000000000000"}, &out); err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("interrupted: %v", err)
	}
	if !strings.HasPrefix(out.String(), "0 of 1000000000000 calls succeeded") {
		t.Errorf("interrupted, it says %q", out.String())
	}
	for _, args := range [][]string{{"--calls", "0"}, {"--concurrency", "-3"}, {"more"}} {
		if err := run(t.Context(), args, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "must be") {
			t.Errorf("%q: error %v", args, err)
		}
	}
	// Nobody listens there.
	err := run(t.Context(), []string{"--base-url", "http://127.0.0.1:1/v1", "--calls", "3", "--config", "testdata/impatient.toml"}, new(bytes.Buffer))
	if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), "3 calls failed; the first: ") {
		t.Errorf("with nobody there: %v", err)
	}
}
