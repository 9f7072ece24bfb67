package strict

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// inner and outer use every kind of destination.
type inner struct {
	Attempts *int           `toml:"max_attempts" range:"1..20" unit:"sends"`
	Delay    *time.Duration `toml:"base_delay" range:"1ms..1h"`
}

type limits struct {
	Law    string        `toml:"law" choice:"adaptive|fixed"`
	Queue  *int          `toml:"queue" range:"0..1000000" unit:"callers"`
	Wait   time.Duration `toml:"max_wait" range:"1ms..24h"`
	Jitter float64       `toml:"pause_jitter" range:"0..1"`
	Low    int           `toml:"low"`
	High   int           `toml:"high"`
	Inner  inner         `toml:"retry"`
}

func (l *limits) Check(k Key) {
	if l.High < l.Low {
		k.At("high").Errorf("is %d, must be at least %s (%d)", l.High, k.At("low"), l.Low)
	}
}

type named struct {
	URL string `toml:"url" len:"1..20"`
	limits
}

type step struct {
	At     time.Duration `toml:"at" required:"true"`
	Share  float32       `toml:"share" range:">0..1"`
	Codes  []int         `toml:"codes" range:"100..599" len:"1..3"`
	Tags   []string      `toml:"tags" choice:"red|green"`
	Small  int8          `toml:"small"`
	Count  uint16        `toml:"count"`
	On     bool          `toml:"on"`
	Addr   netip.Addr    `toml:"addr"`
	Delays []time.Duration
	Points [][]float64          `toml:"points" range:"..<10"`
	Mix    map[string]float64   `toml:"mix" range:"0..1" len:"..2"`
	Loops  map[string][]*inner  `toml:"loops"`
	Waits  []time.Duration      `toml:"waits" range:"0s..1m"`
	Bare   *time.Duration       `toml:"bare"`
	Long   map[string]*[]string `toml:"long"`
}

type outer struct {
	Title string           `toml:"title"`
	Guard limits           `toml:"guard"`
	Up    map[string]named `toml:"upstream"`
	World struct {
		Step []step `toml:"step"`
	} `toml:"world"`
}

func TestDecode(t *testing.T) {
	const src = "\xef\xbb\xbf" + `title = 'a "title"' # comment
guard.law = "fixed"
guard."queue" = 0
guard . retry = { max_attempts = 3, "base_delay" = '1s', }

[upstream]
[upstream."open.ai"]
url = """
  two \
  lines"""
max_wait = "1m30s"
[upstream.b.retry]
base_delay = "1ms"

[[world.step]]
at = "0s"
points = [
  [1, 2.5], # a comment, with ] in it
  [-3],
]
mix = { a = 0, "b c" = 1 }
loops.x = [{ max_attempts = 1 }, {}]
waits = ["1s"]
[world.step.long]
a = ["x"]
[[world.step]]
at = "1h"
share = 1
codes = [100, 0x1f4]
tags = ["red", 'green']
small = -128
count = 65_535
on = true
addr = "::1"
bare = "0s"
`
	var got outer
	if err := Decode("x.toml", []byte(src), &got); err != nil {
		t.Fatal(err)
	}
	if got.Title != `a "title"` || got.Guard.Law != "fixed" || *got.Guard.Queue != 0 || *got.Guard.Inner.Attempts != 3 || *got.Guard.Inner.Delay != time.Second {
		t.Errorf("guard is %+v", got.Guard)
	}
	if u := got.Up["open.ai"]; u.URL != "  two lines" || u.Wait != 90*time.Second || u.Queue != nil {
		t.Errorf("upstream is %+v", u)
	}
	if *got.Up["b"].Inner.Delay != time.Millisecond || len(got.Up) != 2 {
		t.Errorf("upstreams are %+v", got.Up)
	}
	a, b := got.World.Step[0], got.World.Step[1]
	if !reflect.DeepEqual(a.Points, [][]float64{{1, 2.5}, {-3}}) || a.Mix["b c"] != 1 || *a.Loops["x"][0].Attempts != 1 || a.Loops["x"][1] == nil || (*a.Long["a"])[0] != "x" || a.Waits[0] != time.Second {
		t.Errorf("step 0 is %+v", a)
	}
	if b.At != time.Hour || b.Share != 1 || b.Codes[1] != 500 || b.Tags[1] != "green" || b.Small != -128 || b.Count != math.MaxUint16 || !b.On || b.Addr != netip.IPv6Loopback() || b.Bare == nil || *b.Bare != 0 {
		t.Errorf("step 1 is %+v", b)
	}
}

func TestDecodeKeepsDefaults(t *testing.T) {
	got := outer{Title: "kept", Up: map[string]named{"a": {URL: "kept"}}}
	if err := Decode("x.toml", []byte("[upstream.a]\nlaw = 'fixed'"), &got); err != nil {
		t.Fatal(err)
	}
	if got.Title != "kept" || got.Up["a"].URL != "kept" || got.Up["a"].Law != "fixed" {
		t.Errorf("got %+v", got)
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"unknown", "[guard]\nmax_wiat = 1", `x.toml:2:1: guard.max_wiat is unknown, must be one of law, queue, max_wait, pause_jitter, low, high, retry; did you mean max_wait?`},
		{"other case", "[guard]\nMaxWait = 1", `x.toml:2:1: guard.MaxWait is unknown, must be one of law, queue, max_wait, pause_jitter, low, high, retry; did you mean max_wait?`},
		{"other table", "[guard]\nbase_delay = '1s'", `x.toml:2:1: guard.base_delay is unknown, must be one of law, queue, max_wait, pause_jitter, low, high, retry; base_delay belongs to [guard.retry] or [upstream.<name>.retry] or [[world.step.loops.<name>]]`},
		{"top", "[guard]\ntitle = '1s'", `x.toml:2:1: guard.title is unknown, must be one of law, queue, max_wait, pause_jitter, low, high, retry; title belongs to the top of the file, before the first [table]`},
		{"near in other table", "max_attemps = 1", `x.toml:1:1: max_attemps is unknown, must be one of title, guard, upstream, world; did you mean max_attempts in [guard.retry] or [upstream.<name>.retry] or [[world.step.loops.<name>]]?`},
		{"unknown table", "[gaurd.retry]\nx = 1", `x.toml:1:2: gaurd is unknown, must be one of title, guard, upstream, world; did you mean guard?`},
		{"choice", "guard.law = 'adaptve'", `x.toml:1:7: guard.law is "adaptve", must be "adaptive" or "fixed"; did you mean "adaptive"?`},
		{"choice, not near", "guard.law = 'vegas'", `x.toml:1:7: guard.law is "vegas", must be "adaptive" or "fixed"`},
		{"a word of the key", "guard.retry.attempts = 3", `x.toml:1:13: guard.retry.attempts is unknown, must be one of max_attempts, base_delay; did you mean max_attempts?`},
		{"range", "guard.queue = -5", `x.toml:1:7: guard.queue is -5, must be 0 to 1000000 callers`},
		{"range as written", "guard.queue = 2_000_000", `x.toml:1:7: guard.queue is 2_000_000, must be 0 to 1000000 callers`},
		{"too large for TOML", "guard.queue = 99999999999999999999", `x.toml:1:7: guard.queue is 99999999999999999999, which is not TOML: 99999999999999999999 is out of range for int64`},
		{"type", "guard.queue = [1]", `x.toml:1:7: guard.queue is [1], an array, must be an integer, 0 to 1000000 callers`},
		{"date", "guard.queue = 2026-01-01", `x.toml:1:7: guard.queue is 2026-01-01, a date or time, must be an integer, 0 to 1000000 callers`},
		{"quoted number", "guard.queue = '5'", `x.toml:1:7: guard.queue is "5", a string, must be an integer, 0 to 1000000 callers; write 5 without quotes`},
		{"whole float", "guard.queue = 1e3", `x.toml:1:7: guard.queue is 1e3, a number with a fraction, must be an integer, 0 to 1000000 callers; write 1000`},
		{"float", "guard.queue = 1.5", `x.toml:1:7: guard.queue is 1.5, a number with a fraction, must be an integer, 0 to 1000000 callers`},
		{"nan", "guard.pause_jitter = nan", `x.toml:1:7: guard.pause_jitter is nan, must be a finite number, 0 to 1`},
		{"quoted float", "guard.pause_jitter = '0.5'", `x.toml:1:7: guard.pause_jitter is "0.5", a string, must be a number, 0 to 1; write 0.5 without quotes`},
		{"table for a value", "[guard.queue]", `x.toml:1:8: guard.queue is a table, must be an integer, 0 to 1000000 callers`},
		{"value for a table", "guard = 5", `x.toml:1:1: guard is 5, an integer, must be a table`},
		{"array of tables for a table", "[[guard]]\nlaw = 'fixed'", `x.toml:1:3: guard is an array of tables, must be a table; write [guard], once`},
		{"table for an array of tables", "[world.step]\nat = '1s'", `x.toml:1:8: world.step is a table, must be an array of tables; write [[world.step]]`},
		{"no name", "[upstream]\nurl = 'x'", `x.toml:2:1: upstream.url is a key of one upstream, must be in a table that has a name; write it under [upstream.<name>]`},
		{"number for a word", "guard.law = 5", `x.toml:1:7: guard.law is 5, an integer, must be "adaptive" or "fixed"`},
		{"string", "title = 5", `x.toml:1:1: title is 5, an integer, must be a string; write title = "5"`},
		{"string length", "upstream.a.url = ''", `x.toml:1:12: upstream.a.url has 0 bytes, must be a string of 1 to 20 bytes`},
		{"missing", "world.step = [{at='1s'},{}]", `x.toml:1:25: world.step[1].at is missing, must be a duration in quotes, at least 0s`},
		{"missing with header", "[[world.step]]\nat='1s'\n[[world.step]]", `x.toml:3:9: world.step[1].at is missing, must be a duration in quotes, at least 0s`},
		{"duration, bare", "guard.max_wait = 60", `x.toml:1:7: guard.max_wait is 60, an integer, must be a duration in quotes, 1ms to 24h; write quotes and a unit: "60s" or "60ms"`},
		{"duration, no unit", "guard.max_wait = '60'", `x.toml:1:7: guard.max_wait is "60", must be a duration, 1ms to 24h; write a unit: "60s" or "60ms"`},
		{"duration, no quotes", "guard.max_wait = 60s", `x.toml:1:7: guard.max_wait is 60s without quotes; write max_wait = "60s"`},
		{"duration, days", "guard.max_wait = '2d'", `x.toml:1:7: guard.max_wait is "2d", must be a duration, 1ms to 24h; there is no unit for days, write "48h"`},
		{"duration, words", "guard.max_wait = 'a minute'", `x.toml:1:7: guard.max_wait is "a minute", must be a duration, 1ms to 24h; write a number and a unit (ms, s, m, h), as in "1m30s"`},
		{"duration, range", "guard.max_wait = '25h'", `x.toml:1:7: guard.max_wait is "25h", must be 1ms to 24h`},
		{"duration, negative", "[[world.step]]\nat='1s'\nbare = '-1s'", `x.toml:3:1: world.step[0].bare is "-1s", must be at least 0s`},
		{"duration, zero", "guard.max_wait = '0s'", `x.toml:1:7: guard.max_wait is "0s", must be 1ms to 24h`},
		{"word", "guard.law = adaptive", `x.toml:1:7: guard.law is adaptive without quotes; write law = "adaptive"`},
		{"word for a number", "guard.queue = many", `x.toml:1:7: guard.queue is many, must be an integer, 0 to 1000000 callers`},
		{"duration for a number", "guard.pause_jitter = 60s", `x.toml:1:7: guard.pause_jitter is 60s, must be a number, 0 to 1`},
		{"yes for a number", "guard.queue = yes", `x.toml:1:7: guard.queue is yes, which is not TOML, must be an integer, 0 to 1000000 callers`},
		{"yes", "[[world.step]]\nat='1s'\non = yes", `x.toml:3:1: world.step[0].on is yes, which is not TOML; write on = true`},
		{"bool", "[[world.step]]\nat='1s'\non = 'true'", `x.toml:3:1: world.step[0].on is "true", a string, must be true or false; write true without quotes`},
		{"open range", "[[world.step]]\nat='1s'\nshare = 0", `x.toml:3:1: world.step[0].share is 0, must be more than 0 and at most 1`},
		{"upper bound only", "[[world.step]]\nat='1s'\npoints = [[1, 10]]", `x.toml:3:15: world.step[0].points[0][1] is 10, must be less than 10`},
		{"element", "[[world.step]]\nat='1s'\ncodes = [429, 42]", `x.toml:3:15: world.step[0].codes[1] is 42, must be 100 to 599`},
		{"element choice", "[[world.step]]\nat='1s'\ntags = ['reed']", `x.toml:3:9: world.step[0].tags[0] is "reed", must be "red" or "green"; did you mean "red"?`},
		{"no elements", "[[world.step]]\nat='1s'\ncodes = []", `x.toml:3:1: world.step[0].codes has 0 elements, must be an array of 1 to 3, each an integer, 100 to 599`},
		{"not an array", "[[world.step]]\nat='1s'\ncodes = 5", `x.toml:3:1: world.step[0].codes is 5, an integer, must be an array of 1 to 3, each an integer, 100 to 599; write [5]`},
		{"map value", "[[world.step]]\nat='1s'\nmix.a = 2", `x.toml:3:5: world.step[0].mix.a is 2, must be 0 to 1`},
		{"map size", "[[world.step]]\nat='1s'\nmix = {a=0,b=0,c=0}", `x.toml:3:1: world.step[0].mix has 3 keys, must be a table of at most 2, each a number, 0 to 1`},
		{"int8", "[[world.step]]\nat='1s'\nsmall = 128", `x.toml:3:1: world.step[0].small is 128, must be a smaller number`},
		{"uint16", "[[world.step]]\nat='1s'\ncount = -1", `x.toml:3:1: world.step[0].count is -1, must be at least 0`},
		{"text", "[[world.step]]\nat='1s'\naddr = 'x'", `x.toml:3:1: world.step[0].addr is "x": ParseAddr("x"): unable to parse IP`},
		{"check", "[guard]\nhigh = 2\nlow = 4", `x.toml:2:1: guard.high is 2, must be at least guard.low (4)`},
		{"check, key not written", "[guard]\nlow = 4", `x.toml:1:2: guard.high is 0, must be at least guard.low (4)`},
		{"check in a map", "[upstream.a]\nlow = 4\nhigh = 1", `x.toml:3:1: upstream.a.high is 1, must be at least upstream.a.low (4)`},
		{"duplicate", "title = 'a'\ntitle = 'b'", `x.toml:2:1: title is given twice, first in line 1; remove one of them`},
		{"duplicate, quoted", "title = 'a'\n'title' = 'b'", `x.toml:2:1: title is given twice, first in line 1; remove one of them`},
		{"duplicate, in braces", "guard = {\n law = 'fixed', law = 'fixed' }", `x.toml:2:17: guard.law is given twice, first in line 2; remove one of them`},
		{"duplicate table", "[guard]\nlow=1\nhigh=1\n[guard]\nlaw='fixed'", `x.toml:4:2: guard is given twice, first in line 1; put the keys of both tables under one header`},
		{"value and table", "guard = {}\n[guard]", `x.toml:2:2: guard is a value in line 1 and cannot be a table too`},
		{"value and key", "title = 'x'\ntitle.x = 1", `x.toml:2:1: title is a value in line 1 and cannot be a table too`},
		{"no value", "title =", `x.toml:1:8: title has no value`},
		{"no equals sign", "title", `x.toml:1:1: this is neither key = value nor a [header]: title`},
		{"colon", "title: 'x'", `x.toml:1:1: this is not TOML: title: 'x'; write key = value`},
		{"space in key", "my title = 'x'", `x.toml:1:1: this is not a key: my title; a key is letters, digits, _ and -; put other names in quotes`},
		{"no key", "= 1", `x.toml:1:1: there is no key before the = in = 1`},
		{"slashes", "// title", `x.toml:1:1: this is neither key = value nor a [header]: // title; a comment starts with #`},
		{"open string", "title = 'x", `x.toml:1:9: title is a string that is not closed with ' in its line`},
		{"open long string", "title = '''x\nguard = 1", `x.toml:1:9: title is a string that is not closed with '''`},
		{"open array", "title = [\n1", `x.toml:1:9: the array title is not closed with ']'`},
		{"missing comma", "title = [\n1\n2]", `x.toml:3:1: the array title, opened in line 1, needs a comma or ']' here`},
		{"bad escape", `title = "\q"`, `x.toml:1:1: title has a value that cannot be read: invalid escape in string '\q'`},
		{"open header", "[guard", `x.toml:1:1: this is not a header: [guard`},
		{"half open header", "[[guard]", `x.toml:1:1: the header [[guard] is not closed with ]]`},
		{"text after a value", "title = 'x' 'y'", `x.toml:1:13: there is more after the value of title: 'y'; start a new line`},
		{"column in characters", "guard = { ä = 1 }", `x.toml:1:11: this is not a key: ä; a key is letters, digits, _ and -; put other names in quotes`},
		{"too deep", "title = " + strings.Repeat("[", 100), `x.toml:1:40: title` + strings.Repeat("[0]", 31) + ` is nested too deeply, more than 32 levels`},
		{"key too long", strings.Repeat("a.", 100) + "a = 1", `x.toml:1:1: the key ` + strings.Repeat("a.", 30) + `…… has more than 32 parts`},
		{"NUL", "title = 'a'\n\x00", `x.toml:2:1: the file has the control character 0x00, must be text; in a string write it as \u0000`},
		{"not UTF-8", "title = 'ä\xff'", `x.toml:1:11: the file has the byte 0xff, which is not UTF-8, must be UTF-8; save it as UTF-8`},
		{"UTF-16", "\xff\xfet\x00", `x.toml:1:1: the file is UTF-16, must be UTF-8; save it as UTF-8`},
		{"too large", strings.Repeat("#", MaxSize+1), `x.toml: the file has more than 1048576 bytes, must be at most 1048576 bytes (1 MiB)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var dst outer
			err := Decode("x.toml", []byte(tt.src), &dst)
			if err == nil {
				t.Fatalf("Decode(%q) succeeds, want %s", tt.src, tt.want)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("Decode(%q):\n got %s\nwant %s", tt.src, got, tt.want)
			}
		})
	}
}

// TestAllTogether shows errors of all kinds in one file, after text that spans lines.
func TestAllTogether(t *testing.T) {
	const src = `title = """
[guard]
max_wiat = 1
"""
[guard]
queue = -1
law = fixed
[upstream.a]
url = 'x
max_wait = 5
[[world.step]]
codes = [
  429, # [
  1,
]
nope = { a = "}" }
`
	var dst outer
	err := Decode("x.toml", []byte(src), &dst)
	var all Errors
	if !errors.As(err, &all) {
		t.Fatalf("Decode: %v", err)
	}
	var got []string
	for _, e := range all {
		got = append(got, fmt.Sprintf("%d:%d %s", e.Line, e.Column, e.Key))
	}
	want := []string{
		"6:1 guard.queue", "7:1 guard.law", "9:7 ", "10:1 upstream.a.max_wait",
		"11:9 world.step[0].at", "14:3 world.step[0].codes[1]", "16:1 world.step[0].nope",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q\n%v", got, want, err)
	}
	var one *Error
	if !errors.As(err, &one) || one.Line != 6 || one.Allowed != "0 to 1000000 callers" || one.Problem != "is -1" || one.File != "x.toml" {
		t.Errorf("errors.As finds %+v", one)
	}
}

func TestManyErrors(t *testing.T) {
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, "unknown_key_number_%d = 1\n", i)
	}
	var dst outer
	var all Errors
	if !errors.As(Decode("x.toml", []byte(b.String()), &dst), &all) || len(all) != maxErrors+1 {
		t.Fatalf("%d errors, want %d", len(all), maxErrors+1)
	}
	if want := "x.toml:100: more errors follow; they are not shown"; all[maxErrors].Error() != want {
		t.Errorf("the last is %q, want %q", all[maxErrors], want)
	}
}

type eager struct {
	A      int   `toml:"a" range:"0..9"`
	B      int   `toml:"b" range:"0..9"`
	Nested inner `toml:"nested"`
	called string
}

func (e *eager) CheckEagerly(k Key) {
	e.called = fmt.Sprint(k.At("a").Sound(), k.At("b").Sound(), k.At("nested").Sound(), k.At("nested").Given(), k.At("nested", "max_attempts").Line(), k)
}

func TestEagerChecker(t *testing.T) {
	var e eager
	err := Decode("x.toml", []byte("a = 1\nb = 10\n\nnested.max_attempts = 0\nnested.base_delay = '1s'"), &e)
	if got, want := e.called, "true false false true 4 "; got != want {
		t.Errorf("CheckEagerly saw %q, want %q (%v)", got, want, err)
	}
	e = eager{}
	_ = Decode("x.toml", []byte("a = 1\nnested = {}"), &e)
	if got, want := e.called, "true true true true 2 "; got != want {
		t.Errorf("CheckEagerly saw %q, want %q", got, want)
	}
}

func TestDescribe(t *testing.T) {
	var got []string
	for _, d := range Describe(&outer{}) {
		if strings.HasPrefix(d.Path, "world") {
			got = append(got, d.Path+": "+d.Allowed+pick(d.Required, " (required)", "")+pick(d.Table, " (table)", ""))
		}
	}
	want := `world: a table (table)
world.step: an array of tables (table)
world.step[].at: a duration in quotes, at least 0s (required)
world.step[].share: a number, more than 0 and at most 1
world.step[].codes: an array of 1 to 3, each an integer, 100 to 599
world.step[].tags: an array, each "red" or "green"
world.step[].small: an integer
world.step[].count: an integer
world.step[].on: true or false
world.step[].addr: a string
world.step[].points: an array, each a number, less than 10
world.step[].mix: a table of at most 2, each a number, 0 to 1
world.step[].loops: a table (table)
world.step[].loops.<name>[].max_attempts: an integer, 1 to 20 sends
world.step[].loops.<name>[].base_delay: a duration in quotes, 1ms to 1h
world.step[].waits: an array, each a duration in quotes, 0s to 1m
world.step[].bare: a duration in quotes, at least 0s
world.step[].long: a table, each a string`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("Describe:\n%s\nwant:\n%s", s, want)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"adaptive", "gcl-aimd", "gcl-vegas", "min_limit", "max_limit"}
	for s, want := range map[string]string{
		"adaptve": "adaptive", "ADAPTIVE": "adaptive", "vegas": "gcl-vegas", "minlimit": "min_limit", "maxLimit": "max_limit",
		"limit": "", "gcl": "", "": "", "aim": "", "-": "", "zzz": "",
	} {
		if got, ok := Nearest(s, names); got != want || ok != (want != "") {
			t.Errorf("Nearest(%q) = %q, %t, want %q", s, got, ok, want)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	type twice struct {
		A int `toml:"a"`
		B int `toml:"a"`
	}
	for name, dst := range map[string]any{
		"nil":        nil,
		"no pointer": outer{},
		"nil struct": (*outer)(nil),
		"map":        &map[string]int{},
		"any": &struct {
			A any `toml:"a"`
		}{},
		"channel": &struct {
			A chan int `toml:"a"`
		}{},
		"unexported": &struct {
			a int `toml:"a"`
		}{},
		"range": &struct {
			A int `toml:"a" range:"1-2"`
		}{},
		"bound": &struct {
			A int `toml:"a" range:"1.5..2"`
		}{},
		"duration": &struct {
			A time.Duration `toml:"a" range:"1..2"`
		}{},
		"twice": &twice{},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if r := fmt.Sprint(recover()); !strings.HasPrefix(r, "strict: ") {
					t.Errorf("Decode into %T panics with %s, want strict: …", dst, r)
				}
			}()
			_ = Decode("x.toml", nil, dst)
		})
	}
}

type loop struct {
	Name string `toml:"name"`
	Next []loop `toml:"next"`
}

func TestTypeThatHoldsItself(t *testing.T) {
	var l loop
	if err := Decode("x.toml", []byte("next = [{ name = 'a', next = [{ name = 'b' }] }]"), &l); err != nil || l.Next[0].Next[0].Name != "b" {
		t.Errorf("got %+v, %v", l, err)
	}
	if err := Decode("x.toml", []byte("nam = 1"), &l); err == nil || len(Describe(l)) != 2 {
		t.Errorf("Describe is %v", Describe(l))
	}
}
