package limiter_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/limiter"
)

const document = "../docs/limiter.md"

// words returns text without its layout and the marks of comments.
func words(text string) string {
	var list []string
	for _, w := range strings.Fields(text) {
		if w != "//" {
			list = append(list, w)
		}
	}
	return " " + strings.Join(list, " ") + " "
}

// TestDocument: the code and the output in docs/limiter.md are those of the examples, which run; what it names exists; and
// it says what to do about each refusal.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)

	var examples []string
	for _, file := range []string{"example_test.go", "httplimit/example_test.go"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		examples = append(examples, words(string(b)))
	}
	fence := regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	blocks := fence.FindAllStringSubmatch(doc, -1)
	if len(blocks) < 20 {
		t.Errorf("the document has %d blocks, want one for each feature", len(blocks))
	}
	for _, b := range blocks {
		if kind := b[1]; kind != "go" && kind != "text" {
			continue
		}
		found := false
		for _, e := range examples {
			found = found || strings.Contains(e, words(b[2]))
		}
		if !found {
			t.Errorf("no example has this:\n%s", b[2])
		}
	}

	names := exported(t, map[string]string{
		"limiter": ".", "httplimit": "httplimit", "adaptive": "../adaptive", "feedback": "../feedback", "metrics": "../metrics",
		"admission": "../internal/admission", // limiter has some of its types
	})
	name := regexp.MustCompile("`([A-Za-z][A-Za-z0-9]*(?:\\.[A-Z][A-Za-z0-9]*)*)(?:\\(\\))?`")
	for _, m := range name.FindAllStringSubmatch(fence.ReplaceAllString(doc, ""), -1) {
		pkg, rest, _ := strings.Cut(m[1], ".")
		switch {
		case strings.ToUpper(pkg[:1]) == pkg[:1]: // of limiter, unless it says another package
			if !names["limiter."+m[1]] {
				t.Errorf("%s names %s, which package limiter does not have", document, m[1])
			}
		case rest != "" && names[pkg] && !names[m[1]]:
			t.Errorf("%s names %s, which does not exist", document, m[1])
		}
	}

	for r := limiter.Reason(1); r.String() != "unknown"; r++ {
		if !strings.Contains(doc, "| `"+r.String()+"` |") {
			t.Errorf("%s has no row for the refusal %s", document, r)
		}
	}
	for y := limiter.Why(1); y.String() != "unknown"; y++ {
		if !strings.Contains(doc, "`"+y.String()+"`") {
			t.Errorf("%s does not name the wait for %s", document, y)
		}
	}
}

// exported returns the exported names of packages: "limiter", "limiter.Guard", "limiter.Guard.Stats". A type that is
// another name of one in a package given has its members, too.
func exported(t *testing.T, dirs map[string]string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	aliases := map[string]string{}
	for pkg, dir := range dirs {
		names[pkg] = true
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no Go files in %s: %v", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				declared(pkg, d, names, aliases)
			}
		}
	}
	for alias, of := range aliases {
		for n := range names {
			if member, ok := strings.CutPrefix(n, of+"."); ok {
				names[alias+"."+member] = true
			}
		}
	}
	return names
}

// declared adds what d declares.
func declared(pkg string, d ast.Decl, names map[string]bool, aliases map[string]string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		n := pkg
		if d.Recv != nil {
			of := d.Recv.List[0].Type
			if p, ok := of.(*ast.StarExpr); ok {
				of = p.X
			}
			if id, ok := of.(*ast.Ident); ok {
				n += "." + id.Name
			}
		}
		names[n+"."+d.Name.Name] = true
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				for _, id := range s.Names {
					names[pkg+"."+id.Name] = true
				}
			case *ast.TypeSpec:
				n := pkg + "." + s.Name.Name
				names[n] = true
				switch of := s.Type.(type) {
				case *ast.SelectorExpr:
					if from, ok := of.X.(*ast.Ident); ok && s.Assign.IsValid() {
						aliases[n] = from.Name + "." + of.Sel.Name
					}
				case *ast.StructType:
					for _, f := range of.Fields.List {
						for _, id := range f.Names {
							names[n+"."+id.Name] = true
						}
					}
				case *ast.InterfaceType:
					for _, f := range of.Methods.List {
						for _, id := range f.Names {
							names[n+"."+id.Name] = true
						}
					}
				}
			}
		}
	}
}
