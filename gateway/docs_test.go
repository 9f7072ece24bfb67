package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// The documents name every option of every command, with its default where that is a number, and none that there is not.
func TestDocumentsNameTheOptions(t *testing.T) {
	read := func(file string) string {
		b, err := os.ReadFile("../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	serve, drain := read("gateway.md"), read("drain.md")
	app := newApp(&env{})
	known := map[string]bool{}
	check := func(of, page string, flags []cli.Flag) {
		for _, f := range flags {
			name := f.Names()[0]
			known[name] = true
			if name == "help" {
				continue
			}
			line := regexp.MustCompile("(?m)^.*--" + name + `\b.*$`).FindString(page)
			if line == "" {
				t.Errorf("no document names --%s of %s", name, of)
			}
			if d, ok := f.(*cli.DurationFlag); ok && d.Value > 0 && of == "drain" {
				if want := "| `" + strings.Replace(d.Value.String(), "m0s", "m", 1) + "` |"; !strings.Contains(line, want) {
					t.Errorf("docs/drain.md has %q, which lacks the default of --%s, %s", line, name, d.Value)
				}
			}
		}
	}
	check("gateway", serve, app.Flags)
	for _, c := range app.Commands {
		check(c.Name, serve+drain, c.Flags)
	}
	for _, m := range regexp.MustCompile(`--([a-z][a-z-]+)`).FindAllStringSubmatch(serve+drain, -1) {
		if !known[m[1]] {
			t.Errorf("the documents name --%s, which no command has", m[1])
		}
	}
}
