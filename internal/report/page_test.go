package report

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/browsertest"
)

// playwright returns a folder that has the npm package playwright-core, which it installs for all runs to come when it is missing. Without node, npm or
// a registry the test is skipped, or fails if FLYBALL_REQUIRE names chromium.
func playwright(t *testing.T) string {
	t.Helper()
	const version = "1.56.1"
	missing := func(reason string) string {
		reason += ": the buttons of the page are not pressed"
		if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "chromium") {
			t.Fatal(reason)
		}
		t.Skip(reason)
		return ""
	}
	if _, err := exec.LookPath("node"); err != nil {
		return missing("no node in PATH (Debian: apt-get install nodejs npm)")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	dir := filepath.Join(cache, "flyball", "playwright-"+version)
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "playwright-core", "package.json")); err == nil {
		return dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return missing(err.Error())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, "playwright-core@"+version)
	if out, err := cmd.CombinedOutput(); err != nil {
		return missing("playwright-core cannot be installed: " + err.Error() + "\n" + string(out))
	}
	return dir
}

// The page opens from disk with the network off, says nothing on the console, and its buttons do what they say: also on a narrow
// screen, and on paper.
func TestPageInBrowser(t *testing.T) {
	chromium := browsertest.Find(t)
	modules := playwright(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "page report.html")
	r := full()
	r.Command = "simulate run --seeds 4"
	if err := os.WriteFile(file, html(t, r), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args := []string{"testdata/page.mjs", chromium, file, dir}
	if pictures := os.Getenv("FLYBALL_PICTURES"); pictures != "" { // a folder for screenshots, to look at
		args = []string{"testdata/page.mjs", chromium, file, pictures, "pictures"}
		dir = pictures
	}
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Env = append(os.Environ(), "PLAYWRIGHT_DIR="+modules)
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Console, Requests []string
		Downloads         map[string]struct {
			Size, Width, Height, Lines int
			Head                       string
		}
		Texts struct {
			Copy, Tip, Marker, Pairs, Theme string
			Lines, LinesHidden, LinesBack   int
			Overflow, PDF                   int
		}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&got); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	if len(got.Console) > 0 {
		t.Errorf("the console says %q", got.Console)
	}
	if len(got.Requests) > 0 {
		t.Errorf("the page asks for %q", got.Requests)
	}
	if f := got.Downloads["summary.csv"]; f.Lines != 1+3*6 || !strings.HasPrefix(f.Head, "scenario,controller,goodput") {
		t.Errorf("summary.csv: %+v", f)
	}
	if f := got.Downloads["concurrency-cap.csv"]; f.Lines != 1+6*60 || !strings.HasPrefix(f.Head, "controller,t_s,limit,limit_p10,limit_p90") {
		t.Errorf("concurrency-cap.csv: %+v", f)
	}
	if f := got.Downloads["concurrency-cap.png"]; f.Head != "PNG" || f.Width < 1000 || f.Height < 800 || f.Size < 20_000 {
		t.Errorf("concurrency-cap.png: %+v", f)
	}
	x := got.Texts
	if x.Copy != "Copied" && !strings.HasPrefix(x.Copy, "Selected") {
		t.Errorf("after copying the button says %q", x.Copy)
	}
	if !(x.LinesHidden < x.Lines && x.LinesBack == x.Lines) {
		t.Errorf("%d lines, %d with a controller hidden, %d with all", x.Lines, x.LinesHidden, x.LinesBack)
	}
	for _, want := range []string{"limit", "ours", "gcl-vegas", "oracle"} {
		if !strings.Contains(x.Tip, want) {
			t.Errorf("pointing at a chart shows %q, without %q", x.Tip, want)
		}
	}
	if !strings.Contains(x.Marker, "ours at") || !strings.Contains(x.Marker, "cause: ") {
		t.Errorf("a marker says %q", x.Marker)
	}
	if !strings.Contains(x.Pairs, "points [") || !strings.Contains(x.Pairs, "gcl-aimd") {
		t.Errorf("the differences are %q", x.Pairs)
	}
	if x.Theme != "Theme: light" {
		t.Errorf("the theme is %q", x.Theme)
	}
	if x.Overflow > 0 {
		t.Errorf("on a narrow screen the page is %d px too wide", x.Overflow)
	}
	if x.PDF < 10_000 && os.Getenv("FLYBALL_PICTURES") == "" {
		t.Errorf("printed, the page has %d bytes", x.PDF)
	}
}
