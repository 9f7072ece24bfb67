package report

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// browser returns the path of a Chromium. Without one the test is skipped, or
// fails if the environment variable FLYBALL_REQUIRE names chromium.
func browser(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: not starting a browser")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const reason = "no chromium in PATH: the page is not opened (Debian: apt-get install chromium)"
	if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "chromium") {
		t.Fatal(reason)
	}
	t.Skip(reason)
	return ""
}

// open loads page from disk with the network off and returns the document after
// its script has run, and what was written to the console.
func open(t *testing.T, path string, page []byte) (dom, console string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "report.html")
	if err := os.WriteFile(file, page, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9",
		"--user-data-dir="+filepath.Join(dir, "profile"),
		"--enable-logging=stderr", "--window-size=1280,1000", "--virtual-time-budget=5000", "--dump-dom", "file://"+file)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &log, 10*time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, log.Bytes())
	}
	var lines []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "CONSOLE") {
			lines = append(lines, line)
		}
	}
	return out.String(), strings.Join(lines, "")
}

func TestBrowserDrawsTheCharts(t *testing.T) {
	path := browser(t)
	r := synthetic(6, 6, 600)
	dom, console := open(t, path, html(t, r))
	if console != "" {
		t.Errorf("the console says:\n%s", console)
	}
	// In each scenario five charts of six controllers, less the limit that "no
	// guard" does not have, and the oracle in three of them.
	lines := len(r.Scenarios) * (5*6 - 1 + 3)
	if want := `data-drawn="` + strconv.Itoa(lines) + `"`; !strings.Contains(dom, want) {
		t.Errorf("the page lacks %s", want)
	}
	for _, test := range []struct {
		part string
		want int
	}{
		{`<path class="line c-ours"`, 6 * 5},
		{`<path class="line oracle"`, 6 * 3},
		{`<path class="tick less c-ours"`, 6},
		{`<circle class="dot c-ours"`, 6},
		{`<path class="same"`, 6},
		{`aria-pressed="true"><span class="key`, 7},
	} {
		if got := strings.Count(dom, test.part); got != test.want {
			t.Errorf("%d times %s, want %d", got, test.part, test.want)
		}
	}
	drawn, _, _ := strings.Cut(dom, `<script type="application/json"`) // the data may have these letters in a row
	if strings.Contains(drawn, `d=""`) || strings.Contains(drawn, "NaN") {
		t.Error("a line is empty or has a point that is not a number")
	}
}

func TestBrowserSurvivesBadInput(t *testing.T) {
	path := browser(t)
	all := undefined()
	all.Scenarios = append(all.Scenarios, five().Scenarios...)
	for _, name := range hostile {
		all.Scenarios = append(all.Scenarios, named(name).Scenarios...)
	}
	reports := map[string]*Report{"everything bad at once": all, "nothing": {}}
	for name, r := range reports {
		dom, console := open(t, path, html(t, r))
		if console != "" {
			t.Errorf("%s: the console says:\n%s", name, console)
		}
		if !strings.Contains(dom, "data-drawn=") {
			t.Errorf("%s: the script did not reach its end", name)
		}
	}
}

// The two tests above trust the console: it must report what the policy blocks.
func TestBrowserReportsViolations(t *testing.T) {
	path := browser(t)
	page := html(t, synthetic(1, 2, 20))
	_, console := open(t, path, bytes.Replace(page, []byte("</main>"), []byte("<script>document.title = 1</script></main>"), 1))
	if !strings.Contains(console, "Content Security Policy") {
		t.Errorf("a script that the policy does not know ran silently; the console says %q", console)
	}
}
