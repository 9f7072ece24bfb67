package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/limiter"
)

const limitsFile = "../limits.toml"

// A block is what limits.toml says of a key.
type block struct {
	text                            string // the first lines
	deflt, allowed, smaller, larger string
	value                           string // what is written
	active                          bool   // the key is written, and not an example
}

var (
	keyLine    = regexp.MustCompile(`^(#?)([a-z_]+) = (.*)$`)
	headerLine = regexp.MustCompile(`^#?\[+([^\]]+)\]+$`)
	fieldLine  = regexp.MustCompile(`^# (default|allowed|smaller|larger) +(.*)$`)
)

// blocks reads the comments of limits.toml: the full key, as strict.Describe writes it, to what is said of it.
func blocks(t *testing.T) map[string]block {
	t.Helper()
	data, err := os.ReadFile(limitsFile)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]block{}
	var b block
	table := ""
	text, _, _ := strings.Cut(string(data), "\n# The gateway (docs/gateway.md)") // which has a test of its own
	for _, line := range strings.Split(text, "\n") {
		if m := headerLine.FindStringSubmatch(line); m != nil {
			table = strings.NewReplacer("budget.limit", "budget.limit[]", "upstream.openai.key", "upstream.<name>.key[]", "upstream.openai", "upstream.<name>", "feedback.rule", "feedback.rule[]").Replace(m[1])
			b = block{}
		} else if m := keyLine.FindStringSubmatch(line); m != nil {
			path := table + "." + m[2]
			if _, twice := all[path]; twice {
				t.Errorf("limits.toml has %s twice", path)
			}
			b.value, b.active = m[3], m[1] == ""
			all[path] = b
			b = block{}
		} else if m := fieldLine.FindStringSubmatch(line); m != nil {
			*map[string]*string{"default": &b.deflt, "allowed": &b.allowed, "smaller": &b.smaller, "larger": &b.larger}[m[1]] = m[2]
		} else if text, ok := strings.CutPrefix(line, "# "); ok && b.allowed == "" && !strings.HasPrefix(text, " ") {
			b.text = strings.TrimSpace(b.text + " " + text)
		} else if line == "" {
			b = block{}
		}
	}
	return all
}

// documented returns the keys that limits.toml and the documents have to explain: all but those of an
// upstream that [guard] has.
func documented() []strict.Description {
	var keys []strict.Description
	guard := map[string]bool{}
	for _, d := range strict.Describe(fileTable{}) {
		if key, ok := strings.CutPrefix(d.Path, "guard."); ok {
			guard[key] = true
		}
		if key, ok := strings.CutPrefix(d.Path, "upstream.<name>."); d.Table || ok && guard[key] {
			continue
		}
		keys = append(keys, d)
	}
	return keys
}

func TestLimitsFileIsDefault(t *testing.T) {
	f, err := Load(limitsFile)
	if err != nil {
		t.Fatal(err)
	}
	if want := Default(); !reflect.DeepEqual(f, want) {
		t.Errorf("limits.toml says\n%+v, want the default\n%+v", f, want)
	}
}

func TestLimitsFileExplainsEveryKey(t *testing.T) {
	all := blocks(t)
	for _, d := range documented() {
		b, ok := all[d.Path]
		delete(all, d.Path)
		if !ok || b.text == "" || b.deflt == "" {
			t.Errorf("limits.toml does not say what %s is, and its default: %+v", d.Path, b)
			continue
		}
		if !strings.HasPrefix(b.allowed, d.Allowed) {
			t.Errorf("limits.toml says that %s must be %s, want %s", d.Path, b.allowed, d.Allowed)
		}
		// The literal that is written is the default, word for word.
		if b.active && b.deflt != b.value && !strings.HasPrefix(b.deflt, b.value+",") {
			t.Errorf("limits.toml has %s = %s, and says that the default is %s", d.Path, b.value, b.deflt)
		}
		tunable := strings.Contains(d.Allowed, "number") || strings.Contains(d.Allowed, "duration") || strings.Contains(d.Allowed, "integer") && !strings.HasSuffix(d.Path, ".status")
		if tunable != (b.smaller != "" && b.larger != "") {
			t.Errorf("limits.toml has the effects %q and %q for %s", b.smaller, b.larger, d.Path)
		}
	}
	for path, b := range all {
		if !strings.HasPrefix(path, "upstream.<name>.") || b.active {
			t.Errorf("limits.toml explains %s, which is no key", path)
		}
	}
}

// TestLimitsFileExamples takes the # off the examples.
func TestLimitsFileExamples(t *testing.T) {
	data, err := os.ReadFile(limitsFile)
	if err != nil {
		t.Fatal(err)
	}
	src := regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAllString(string(data), "$1")
	f, err := Parse("limits.toml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	u, ok := f.Upstream("openai")
	if !ok || u.BaseURL == "" || u.Provider != "openai" || u.MaxWait == f.Defaults.MaxWait || u.Retry == f.Defaults.Retry || len(f.Rules) != 1 ||
		!reflect.DeepEqual(u.Keys, Keys{
			Sources: []KeySource{{Env: "OPENAI_API_KEY"}, {File: "/run/secrets/openai"}}, Limit: limiter.LimitAccount,
			Header: "X-Api-Key", Prefix: "Token ", Probe: 5 * time.Minute, ProbeMax: 2 * time.Hour,
		}) {
		t.Errorf("the examples say %+v and %+v", u, f.Rules)
	}
	v := reflect.ValueOf(f.Rules[0])
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the example of a rule has no %s", v.Type().Field(i).Name)
		}
	}
}

// TestDocument compares the generated parts of docs/configuration.md with the decoder.
func TestDocument(t *testing.T) {
	const file = "../docs/configuration.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := os.ReadFile("testdata/docs.bad.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, messages := Parse("limits.toml", bad)
	text := string(doc)
	text = replacePart(t, text, "errors", fmt.Sprintf("```toml\n%s```\n\n```text\n%v\n```", bad, messages))
	text = replacePart(t, text, "keys", keyTable(t))
	golden(t, file, []byte(text))
}

// replacePart puts part between <!-- name: … --> and <!-- end --> in text.
func replacePart(t *testing.T, text, name, part string) string {
	t.Helper()
	before, rest, ok := strings.Cut(text, "<!-- "+name+":")
	comment, rest, ok2 := strings.Cut(rest, "-->\n")
	_, after, ok3 := strings.Cut(rest, "<!-- end -->")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("the document has no part %s", name)
	}
	return before + "<!-- " + name + ":" + comment + "-->\n" + part + "\n<!-- end -->" + after
}

func keyTable(t *testing.T) string {
	var b strings.Builder
	all := blocks(t)
	b.WriteString("| key | default | must be | what it is |\n| --- | --- | --- | --- |\n")
	cell := strings.NewReplacer("|", "\\|", "<", "&lt;")
	for _, d := range documented() {
		x := all[d.Path]
		what, _, _ := strings.Cut(x.text, ". ")
		required := ""
		if d.Required {
			required = ", required"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s%s | %s |\n", d.Path, cell.Replace(x.deflt), cell.Replace(x.allowed), required, cell.Replace(strings.TrimSuffix(what, ".")))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
