package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// The bounds of acceptance.toml are kept.
func TestAcceptance(t *testing.T) {
	if raceDetector || testing.Short() {
		t.Skip("it runs a minute of simulations, which no race is in")
	}
	t.Chdir("../..")
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"simulate", "assert", "-q", "acceptance.toml"}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
}
