package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// azureTrace is a trace in Azure's form, n requests with a second between two.
func azureTrace(n int) string {
	var b strings.Builder
	b.WriteString("TIMESTAMP,ContextTokens,GeneratedTokens\n")
	at := time.Date(2023, 11, 16, 18, 17, 3, 979960000, time.UTC)
	for i := range n {
		fmt.Fprintf(&b, "%s,%d,%d\n", at.Add(time.Duration(i)*time.Second).Format("2006-01-02 15:04:05.0000000"), 100+i, 10+i%7)
	}
	return b.String()
}

func TestReplay(t *testing.T) {
	page := filepath.Join(t.TempDir(), "r.html")
	args := []string{"replay", "--upstream", "rpm-bucket", "--rate-scale", "4", "--controllers", "none,ours", "--html", page, "-"}
	out, errs, code := simulate(t.Context(), azureTrace(120), args...)
	if code != exitOK || !strings.Contains(errs, "480 requests in 1m59.9") && !strings.Contains(errs, "480 requests in 2m") || !strings.Contains(out, "ours") {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "replay --upstream rpm-bucket --rate-scale 4") {
		t.Errorf("%d bytes, %v", len(html), err)
	}
	again, _, _ := simulate(t.Context(), azureTrace(120), append(args[:len(args)-3], "--cpus", "1", "--html", "", "-")...)
	if again != out {
		t.Errorf("another number of processors gives another table:\n%s\n%s", out, again)
	}
}

func TestReplayMisuse(t *testing.T) {
	unsorted := "t,in\n0,1\n5,1\n2,1\n"
	for _, c := range []struct{ args, stdin, want string }{
		{"replay", "", "must be one trace"},
		{"replay /nowhere/x.csv", "", "cannot be read"},
		{"replay --upstream nowhere -", azureTrace(5), "--upstream: there is no built-in scenario"},
		{"replay --format klingon -", azureTrace(5), `no format "klingon"`},
		{"replay --columns t -", azureTrace(5), "--columns:"},
		{"replay -", unsorted, "stdin:4: t is 3s before that of row 3: sort the file by time, or read it with --sort"},
		{"replay -", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1000000000,1\n", "stdin:2: ContextTokens is"},
		{"replay --window 1ns --from 500h -", azureTrace(5), "has no request between"},
		{"replay --rate-scale 0.0000001 -", azureTrace(5), "out of range"},
		{"replay --time-scale 0 -", azureTrace(5), "--time-scale is 0"},
		{"replay --seeds 0 -", azureTrace(5), "--seeds is 0"},
		{"replay --duration 2000000h -", azureTrace(5), "--duration is 2000000h0m0s, must be 1s to 1000h0m0s"},
	} {
		out, errs, code := simulate(t.Context(), c.stdin, strings.Fields(c.args)...)
		if code != exitMisuse || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("simulate %s: exit code %d, %q, want %q", c.args, code, errs, c.want)
		}
	}
	if _, errs, code := simulate(t.Context(), unsorted, "replay", "--sort", "--controllers", "none", "--html", "", "-"); code != exitOK {
		t.Errorf("--sort: exit code %d, %s", code, errs)
	}
}

// A part of a trace meets the changes of its upstream at other moments than the whole did, which is said.
func TestReplayChanges(t *testing.T) {
	for says, args := range map[bool][]string{true: {"--from", "10s", "--upstream", "capacity-step"}, false: {"--from", "10s", "--upstream", "rpm-bucket"}} {
		_, errs, code := simulate(t.Context(), azureTrace(400), append(append([]string{"replay"}, args...), "--controllers", "none", "--html", "", "-")...)
		if code != exitOK || strings.Contains(errs, "the changes of "+args[3]+" stay at their instants") != says {
			t.Errorf("%v: exit code %d, %s", args, code, errs)
		}
	}
}
