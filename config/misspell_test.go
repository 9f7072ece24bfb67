package config

import (
	"strings"
	"testing"

	"github.com/flyball-go/flyball/config/strict"
	"pgregory.net/rapid"
)

// TestMisspeltKeys makes one slip in any key of the file, and wants the key to be suggested.
func TestMisspeltKeys(t *testing.T) {
	keys := strict.Describe(fileTable{})
	siblings := map[string][]string{} // the names in each table
	known := map[string]bool{}
	split := func(path string) (table, name string) {
		i := strings.LastIndexByte(path, '.')
		return path[:max(i, 0)], path[i+1:]
	}
	for _, d := range keys {
		table, name := split(d.Path)
		siblings[table] = append(siblings[table], name)
		known[plain(name)] = true
	}
	rapid.Check(t, func(rt *rapid.T) {
		table, name := split(rapid.SampledFrom(keys).Draw(rt, "key").Path)
		slips := edited(name)
		bad := rapid.SampledFrom(slips).Draw(rt, "slip")
		if known[plain(bad)] || bad == "" {
			return // it is another key
		}
		for _, other := range siblings[table] {
			for _, s := range edited(other) {
				if other != name && plain(s) == plain(bad) {
					return // it is as near to another one
				}
			}
		}
		header := strings.ReplaceAll(table, "<name>", "x")
		if h, ok := strings.CutSuffix(header, "[]"); ok {
			header = "[[" + h + "]]\n"
		} else if header != "" {
			header = "[" + header + "]\n"
		}
		_, err := Parse("x.toml", []byte(header+bad+" = 1\n"))
		if err == nil || !strings.Contains(err.Error(), bad+" is unknown") || !strings.Contains(err.Error(), "; did you mean "+name+"?") {
			t.Fatalf("%s for %s in [%s] gives: %v", bad, name, table, err)
		}
	})
}

// plain takes away what a suggestion does not count as a slip.
func plain(s string) string { return strings.ReplaceAll(s, "_", "") }

// edited returns s with each letter dropped, doubled, replaced, or swapped with the next.
func edited(s string) []string {
	var all []string
	for i := range s {
		all = append(all, s[:i]+s[i+1:], s[:i]+s[i:i+1]+s[i:])
		if i > 0 {
			all = append(all, s[:i-1]+s[i:i+1]+s[i-1:i]+s[i+1:])
		}
		for c := 'a'; c <= 'z'; c++ {
			all = append(all, s[:i]+string(c)+s[i+1:], s[:i]+string(c)+s[i:])
		}
	}
	return all
}
