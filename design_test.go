package flyball_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// DESIGN.md's list of imports is what the code imports.
func TestDesignImports(t *testing.T) {
	page, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```\nfeedback ")
	if !ok {
		t.Fatal("DESIGN.md has no list of imports")
	}
	list, _, _ := strings.Cut("feedback "+rest, "```")
	want := map[string][]string{}
	for line := range strings.Lines(list) {
		name, imports, ok := strings.Cut(line, "->")
		if !ok {
			t.Fatalf("DESIGN.md: %q is no line of the list", line)
		}
		var names []string
		for _, n := range strings.Split(imports, ",") {
			if n = strings.TrimSpace(n); n != "" {
				names = append(names, n)
			}
		}
		slices.Sort(names)
		want[strings.TrimSpace(name)] = names
	}

	const module = "github.com/flyball-go/flyball"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")
		if name == "" {
			continue // these tests
		}
		var got []string
		for _, path := range fields[1:] {
			first, _, _ := strings.Cut(path, "/")
			switch {
			case strings.HasPrefix(path, module+"/"):
				got = append(got, strings.TrimPrefix(path, module+"/"))
			case strings.Contains(first, "."):
				parts := strings.Split(path, "/")
				short := parts[1] + "/" + parts[2]
				if parts[2] == "go-concurrency-limits" {
					short = parts[2]
				}
				got = append(got, short)
			}
		}
		slices.Sort(got)
		got = slices.Compact(got)
		names, listed := want[name]
		delete(want, name)
		if !listed || !slices.Equal(got, names) {
			t.Errorf("%s imports %v, DESIGN.md says %v", name, got, names)
		}
	}
	for name := range want {
		t.Errorf("DESIGN.md lists %s, which is no package", name)
	}
}
