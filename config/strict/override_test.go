package strict

import (
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

const overridden = `
name = "a"
[guard]
wait = "5s"
[[limit]]
kind = "x"
size = 3
[[limit]]
kind = "y"
`

func TestOverride(t *testing.T) {
	type table struct {
		Name  string `toml:"name"`
		Guard struct {
			Wait  time.Duration `toml:"wait" range:"1s..1m"`
			Share float64       `toml:"share"`
			Words []string      `toml:"words"`
		} `toml:"guard"`
		Limit []struct {
			Kind string `toml:"kind"`
			Size int    `toml:"size"`
		} `toml:"limit"`
	}
	apply := func(texts ...string) (table, error) {
		var os []Override
		for _, text := range texts {
			o, err := ParseOverride(text)
			if err != nil {
				return table{}, err
			}
			os = append(os, o)
		}
		data, err := Apply([]byte(overridden), os)
		if err != nil {
			return table{}, err
		}
		var got table
		if err := Decode("--set", data, &got); err != nil {
			return got, Unplaced(err)
		}
		return got, nil
	}
	got, err := apply("guard.wait=30s", "guard.share = 0.25", "name=b c", "limit.1.size=7", `guard.words=["p","q"]`, "limit.0.kind=\"=\"")
	if err != nil {
		t.Fatal(err)
	}
	if got.Guard.Wait != 30*time.Second || got.Guard.Share != 0.25 || got.Name != "b c" || got.Limit[1].Size != 7 || got.Limit[0].Size != 3 ||
		got.Limit[0].Kind != "=" || len(got.Guard.Words) != 2 {
		t.Errorf("got %+v", got)
	}
	for _, test := range []struct{ text, want string }{
		{"guard.wait", `"guard.wait" has no =`},
		{"=3", `"" is no key`},
		{"guard.=3", `"guard." is no key`},
		{"guard wait=3", `"guard wait" is no key`},
		{"guard.wait=", "guard.wait has no value"},
		{"guard.wiat=30s", "guard.wiat is unknown, must be one of wait, share, words; did you mean wait?"},
		{"guard.wait=2m", `guard.wait is "2m", must be 1s to 1m`},
		{"guard.share=much", `guard.share is "much", a string, must be a number`},
		{"limit.2.size=3", `limit has 2 elements, 0 to 1: "2" is none of them`},
		{"limit.x.size=3", `"x" is none of them`},
		{"limit.0=3", "limit.0 is a table"},
		{"name.first=3", "name is no table: it has no key first"},
		{strings.Repeat("a.", 40) + "a=1", "more than 32 names"},
	} {
		if _, err := apply(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.text, err, test.want)
		}
	}
}

// What is set is there afterwards, and nothing else has changed.
func FuzzOverride(f *testing.F) {
	for _, s := range []string{"a=1", "guard.wait=30s", "limit.1.kind=z", "a.b.c=[1, 2]", "x={y = 1}", "name=\"\"", "d=1979-05-27", "a=nan", "e=1 # b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseOverride(text)
		if err != nil {
			return
		}
		data, err := Apply([]byte(overridden), []Override{o})
		if err != nil {
			return
		}
		var got map[string]any
		if _, err := toml.Decode(string(data), &got); err != nil {
			t.Fatalf("%q gives no TOML: %v\n%s", text, err, data)
		}
		again, err := Apply(data, []Override{o})
		if err != nil || string(again) != string(data) {
			t.Fatalf("%q set twice gives\n%s\nnot\n%s: %v", text, again, data, err)
		}
	})
}
