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
