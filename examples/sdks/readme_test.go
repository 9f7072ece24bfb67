package sdks

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What README.md shows is what is compiled and tested.
func TestReadme(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	readme, source, mod := read("README.md"), read("wire.go"), read("../go.mod")

	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(readme, -1)
	if len(blocks) != 4 {
		t.Errorf("README.md has %d blocks of Go, want the transport and the 3 SDKs", len(blocks))
	}
	for _, b := range blocks {
		body := "\t" + strings.ReplaceAll(strings.TrimSuffix(b[1], "\n"), "\n", "\n\t") + "\n}\n"
		if !strings.Contains(source, body) {
			t.Errorf("wire.go has no function that ends in\n%s", body)
		}
	}

	versions := regexp.MustCompile("`(github.com/[^ `]+ v[^ `]+)`").FindAllStringSubmatch(readme, -1)
	if len(versions) != len(sdks) {
		t.Errorf("README.md names %d versions, want %d", len(versions), len(sdks))
	}
	for _, v := range versions {
		if !strings.Contains(mod, "\t"+v[1]+"\n") {
			t.Errorf("go.mod does not require %s", v[1])
		}
	}
}
