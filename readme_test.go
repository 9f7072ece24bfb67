package flyball_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A page and its Chinese translation have the same parts: headings, rows of tables, blocks of code and what they refer to.
func TestTranslationsAreInStep(t *testing.T) {
	for _, page := range []struct {
		english, chinese string
		loose            bool // rows of tables, and what they refer to, may come to the translation later
	}{
		{"README.md", "README.zh-CN.md", true},
		{"docs/gateway.md", "docs/gateway.zh-CN.md", false},
	} {
		a, b := readPage(t, page.english), readPage(t, page.chinese)
		for i, name := range []string{"headings", "rows of tables", "blocks of code", "items of lists"} {
			if a.counts[i] != b.counts[i] && !(page.loose && i == 1) {
				t.Errorf("%s has %d %s, %s has %d", page.english, a.counts[i], name, page.chinese, b.counts[i])
			}
		}
		for _, l := range a.links {
			if !slices.Contains(b.links, l) && !page.loose {
				t.Errorf("%s refers to %s, %s does not", page.english, l, page.chinese)
			}
		}
		for _, l := range b.links {
			if !slices.Contains(a.links, l) {
				t.Errorf("%s refers to %s, %s does not", page.chinese, l, page.english)
			}
		}
		if len(a.code) != len(b.code) {
			continue
		}
		for i := range a.code {
			if a.code[i] != b.code[i] {
				t.Errorf("%s and %s differ in the code\n%s\n%s", page.english, page.chinese, a.code[i], b.code[i])
			}
		}
	}
}

// No line of prose is there twice. Of a line that two branches rewrote a merge may keep both, one of them with what is not true any more.
func TestNoLineTwice(t *testing.T) {
	const same = 60 // bytes that no two lines begin with
	for _, page := range []string{"README.md", "DESIGN.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/control-law.md", "docs/experiments.md", "docs/limiter.md", "docs/scenarios.md", "docs/simulator.md"} {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		seen, code := map[string]int{}, false
		for i, line := range strings.Split(string(b), "\n") {
			if strings.HasPrefix(line, "```") {
				code = !code
			}
			if code || len(line) < same {
				continue
			}
			if first, ok := seen[line[:same]]; ok {
				t.Errorf("%s:%d begins like line %d: %s", page, i+1, first, line[:same])
			}
			seen[line[:same]] = i + 1
		}
	}
}

type parts struct {
	counts [4]int
	links  []string
	code   []string // without comments
}

func readPage(t *testing.T, name string) (p parts) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	comment := regexp.MustCompile(` *(//|#) .*`)
	inCode, code := false, ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			if inCode = !inCode; inCode {
				code = ""
				p.counts[2]++
			} else {
				p.code = append(p.code, code)
			}
		case inCode:
			code += strings.TrimRight(comment.ReplaceAllString(line, ""), " ") + "\n"
		case strings.HasPrefix(line, "#"):
			p.counts[0]++
		case strings.HasPrefix(line, "|"):
			p.counts[1]++
		case regexp.MustCompile(`^([-*]|[0-9]+\.) `).MatchString(line):
			p.counts[3]++
		}
		if !inCode {
			for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(line, -1) {
				// The two pages refer to each other, and each to pages in its language where there are some.
				p.links = append(p.links, strings.Replace(m[1], ".zh-CN.md", ".md", 1))
			}
		}
	}
	slices.Sort(p.links)
	p.links = slices.Compact(p.links)
	return p
}
