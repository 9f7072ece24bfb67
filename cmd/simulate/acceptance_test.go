package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// The bounds of acceptance.toml and acceptance-fair.toml are kept.
func TestAcceptance(t *testing.T) {
	if raceDetector || testing.Short() {
		t.Skip("it runs a minute of simulations, which no race is in")
	}
	t.Chdir("../..")
	for _, file := range []string{"acceptance.toml", "acceptance-fair.toml"} {
		var out, errs bytes.Buffer
		if code := run(context.Background(), []string{"simulate", "assert", "-q", file}, strings.NewReader(""), &out, &errs); code != 0 {
			t.Errorf("%s: exit code %d\n%s%s", file, code, out.String(), errs.String())
		}
	}
}
