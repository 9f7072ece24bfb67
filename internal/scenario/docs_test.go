package scenario

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// The page on scenarios has each key, and its examples are scenarios.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/scenarios.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			key, tagged := f.Tag.Lookup("toml")
			if f.Anonymous {
				walk(f.Type)
				continue
			}
			if !tagged {
				continue
			}
			if !strings.Contains(page, "`"+key+"`") && !strings.Contains(page, "`"+key+" = ") && !strings.Contains(page, "."+key+"]") && !strings.Contains(page, "["+key+"]") && !strings.Contains(page, "["+key+".") {
				t.Errorf("docs/scenarios.md lacks the key %s of %v", key, typ)
			}
			for choice := range strings.SplitSeq(f.Tag.Get("choice"), "|") {
				if choice != "" && !strings.Contains(page, "`"+choice+"`") && !strings.Contains(page, choice+" |") && !strings.Contains(page, "| "+choice) {
					t.Errorf("docs/scenarios.md lacks the value %s of %s", choice, key)
				}
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[fileTable]())

	examples := 0
	for rest := page; ; {
		_, after, ok := strings.Cut(rest, "```toml\n")
		if !ok {
			break
		}
		example, tail, _ := strings.Cut(after, "```")
		rest = tail
		examples++
		if _, err := Parse("docs/scenarios.md", []byte(example)); err != nil {
			t.Errorf("an example of docs/scenarios.md is no scenario: %v\n%s", err, example)
		}
	}
	if examples < 2 {
		t.Errorf("docs/scenarios.md has %d examples", examples)
	}
}
