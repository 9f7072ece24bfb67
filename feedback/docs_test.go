package feedback

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated parts of docs/feedback.md")

const documentFile = "../docs/feedback.md"

// generated returns the tables of the document that are made of the tables of the code.
func generated() map[string]string {
	var words, moneys, codes strings.Builder
	words.WriteString("| scope | words |\n| --- | --- |\n")
	for _, scope := range wordingOrder {
		var list []string
		for _, p := range wordingTable {
			if p.scope == scope {
				list = append(list, strings.Trim(p.text, "|"))
			}
		}
		fmt.Fprintf(&words, "| `%v` | %s |\n", scope, strings.Join(list, ", "))
	}
	for _, p := range money {
		fmt.Fprintf(&moneys, "* %s\n", p)
	}
	codes.WriteString("| class | scope | provider | where | codes | source |\n| --- | --- | --- | --- | --- | --- |\n")
	for i := 0; i < len(codeTable); {
		c := codeTable[i]
		var list []string
		for ; i < len(codeTable); i++ {
			n := codeTable[i]
			if n.Class != c.Class || n.Scope != c.Scope || n.Provider != c.Provider || n.Place != c.Place || n.Source != c.Source ||
				n.Generic != c.Generic || n.Retryable != c.Retryable {
				break
			}
			list = append(list, "`"+n.Code+"`")
		}
		class := "`" + c.Class.String() + "`"
		if c.Generic {
			class += " *"
		}
		if c.Retryable && c.Class == ClientError {
			class += ", retryable"
		}
		where := c.Place.String()
		if c.Place != PlaceAny {
			where = "`" + where + "`"
		}
		fmt.Fprintf(&codes, "| %s | `%v` | %s | %s | %s | %s |\n", class, c.Scope, c.Provider, where, strings.Join(list, ", "), c.Source)
	}
	return map[string]string{"words": words.String(), "money": moneys.String(), "codes": codes.String()}
}

// TestDocument: docs/feedback.md has the tables that the code has.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	for name, want := range generated() {
		start := strings.Index(doc, "<!-- "+name)
		end := strings.Index(doc, "<!-- /"+name+" -->")
		if start < 0 || end < start {
			t.Fatalf("%s has no part %s", documentFile, name)
		}
		start += strings.Index(doc[start:], "\n") + 1
		if doc[start:end] != want && !*update {
			t.Errorf("%s: the part %s differs from the code; run go test ./feedback -run TestDocument -update", documentFile, name)
		}
		doc = doc[:start] + want + doc[end:]
	}
	if *update {
		if err := os.WriteFile(documentFile, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Every class, scope and rule field is explained.
	for _, word := range append(append([]string{}, classNames[:]...), scopeNames[:]...) {
		if !strings.Contains(doc, "`"+word+"`") {
			t.Errorf("%s does not mention %s", documentFile, word)
		}
	}
}
