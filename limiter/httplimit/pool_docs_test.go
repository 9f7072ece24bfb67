package httplimit

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestKeysDocument: the code, the file and the output in docs/keys.md are those of the examples, which run.
func TestKeysDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/keys.md")
	if err != nil {
		t.Fatal(err)
	}
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	var examples string
	for _, file := range []string{"pool_example_test.go", "pool_docs_example_test.go", "../pool_example_test.go"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		examples += words(string(b))
	}
	blocks := regexp.MustCompile("(?s)```[a-z]+\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	if len(blocks) != 7 {
		t.Errorf("the document has %d pieces of code and output, want 7", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(examples, words(b[1])) {
			t.Errorf("no example has this:\n%s", b[1])
		}
	}
}
