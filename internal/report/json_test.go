package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestWriteJSONGolden(t *testing.T) {
	r := five()
	r.Scenarios[0].Runs[1].Series = Series{Step: 1e9, Limit: []float64{4, 5}, Goodput: []float64{1, 2}}
	r.Scenarios[0].Runs[1].Decisions = []Decision{{At: 1.5e9, Limit: 5, Cause: "probe", Binding: "limit"}}
	var b, indented bytes.Buffer
	if err := WriteJSON(&b, r); err != nil {
		t.Fatal(err)
	}
	if err := json.Indent(&indented, b.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "five.json", indented.Bytes())
}

func TestWriteJSONUndefined(t *testing.T) {
	for _, r := range []*Report{{}, undefined()} {
		var b bytes.Buffer
		if err := WriteJSON(&b, r); err != nil {
			t.Fatal(err)
		}
		if !json.Valid(b.Bytes()) || !bytes.HasSuffix(b.Bytes(), []byte("}\n")) {
			t.Errorf("not one JSON object and a newline: %s", b.Bytes())
		}
		for _, list := range []string{`"scenarios":null`, `"runs":null`, `"limit":null,"pace_rps":null,"in_flight"`, `"decisions":null`, `"ranked":null`} {
			if bytes.Contains(b.Bytes(), []byte(list)) {
				t.Errorf("an empty list is null: %s", list)
			}
		}
	}
}

// A time that never came is not left out of a column: its mean would be one of the good runs.
func TestWriteCSVNever(t *testing.T) {
	sum := Summary{Recover: math.Inf(1), MeanLimit: math.Inf(1)}
	var b strings.Builder
	if err := WriteCSV(&b, &Report{Scenarios: []Scenario{{Name: "a", Runs: []Run{{Controller: "none", Summary: sum}}}}}); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil || len(lines) != 2 {
		t.Fatalf("%v in\n%s", err, &b)
	}
	for i, name := range lines[0] {
		if want, ok := map[string]string{"settle": "inf", "recover": "inf", "limit": "", "herd": "0"}[name]; ok && lines[1][i] != want {
			t.Errorf("%s is %q, want %q", name, lines[1][i], want)
		}
	}
}

func TestWriteJSONReturnsTheError(t *testing.T) {
	want := errors.New("disk full")
	if err := WriteJSON(failing{want}, &Report{}); !errors.Is(err, want) {
		t.Errorf("WriteJSON = %v, want %v", err, want)
	}
}

// Every key is explained in the comment of WriteJSON.
func TestJSONKeysAreDocumented(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "json.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	doc := ""
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "WriteJSON" {
			doc = f.Doc.Text()
		}
	}
	words := map[string]bool{}
	for _, w := range regexp.MustCompile(`[a-z0-9_]+`).FindAllString(doc, -1) {
		words[w] = true
	}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Slice:
			walk(typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
				if !words[key] {
					t.Errorf("key %q of %s is not documented", key, typ.Name())
				}
				walk(typ.Field(i).Type)
			}
		}
	}
	walk(reflect.TypeFor[jsonReport]())
}
