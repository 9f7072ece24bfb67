package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/limiter"
)

// noKeys is what an upstream has that says nothing of keys.
var noKeys = Keys{Header: "Authorization", Prefix: "Bearer ", Probe: 10 * time.Minute, ProbeMax: time.Hour}

func TestKeys(t *testing.T) {
	for src, want := range map[string]Keys{
		"":                             noKeys,
		"provider = 'anthropic'":       {Header: "X-Api-Key", Probe: 10 * time.Minute, ProbeMax: time.Hour},
		"provider = 'gemini'":          {Header: "X-Goog-Api-Key", Probe: 10 * time.Minute, ProbeMax: time.Hour},
		"provider = 'openai'":          noKeys,
		"key_header = 'authorization'": {Header: "authorization", Prefix: "Bearer ", Probe: 10 * time.Minute, ProbeMax: time.Hour},
		"key_prefix = ''":              {Header: "Authorization", Probe: 10 * time.Minute, ProbeMax: time.Hour},
		"key_probe = '2h'":             {Header: "Authorization", Prefix: "Bearer ", Probe: 2 * time.Hour, ProbeMax: 2 * time.Hour},
		"provider = 'gemini'\nkey_header = 'Authorization'\nlimit = 'account'": {
			Header: "Authorization", Prefix: "Bearer ", Probe: 10 * time.Minute, ProbeMax: time.Hour, Limit: limiter.LimitAccount,
		},
	} {
		f, err := Parse("x.toml", []byte("[upstream.a]\n"+src))
		if err != nil || !reflect.DeepEqual(f.Upstreams["a"].Keys, want) {
			t.Errorf("%s gives %+v, %v, want %+v", src, f, err, want)
		}
	}
}

func TestReadKeys(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("FLYBALL_TEST_KEY", "sk-verysecret-env")
	t.Setenv("FLYBALL_TEST_LINE", "sk-verysecret-line\n")
	t.Setenv("FLYBALL_TEST_EMPTY", "")
	t.Setenv("FLYBALL_TEST_QUOTED", `"sk-verysecret-env"`)
	t.Setenv("FLYBALL_TEST_SPACE", "sk-verysecret-a sk-verysecret-b")
	for _, c := range []struct {
		source KeySource
		want   string
		err    string
	}{
		{KeySource{Env: "FLYBALL_TEST_KEY"}, "sk-verysecret-env", ""},
		{KeySource{Env: "FLYBALL_TEST_LINE"}, "sk-verysecret-line", ""},
		{KeySource{Env: "FLYBALL_TEST_EMPTY"}, "", "config: the environment variable FLYBALL_TEST_EMPTY is empty, must be a key"},
		{KeySource{Env: "FLYBALL_TEST_QUOTED"}, "", "config: the environment variable FLYBALL_TEST_QUOTED has quotes around the key, which would be sent with it, as a list of variables for docker run has: leave them out"},
		{KeySource{Env: "FLYBALL_TEST_NONE"}, "", "config: the environment variable FLYBALL_TEST_NONE is not set: set it to the key"},
		{KeySource{Env: "FLYBALL_TEST_SPACE"}, "", "config: the environment variable FLYBALL_TEST_SPACE has spaces or line ends inside, must be one key alone"},
		{KeySource{File: write("unix", "sk-verysecret-unix\n")}, "sk-verysecret-unix", ""},
		{KeySource{File: write("windows", "sk-verysecret-windows\r\n")}, "sk-verysecret-windows", ""},
		{KeySource{File: write("marked", "\ufeffsk-verysecret-marked\r\n")}, "sk-verysecret-marked", ""},
		{KeySource{File: write("unseen", "sk-verysecret\u200b-1\n")}, "", "config: the file " + dir + "/unseen has characters that cannot be seen, as text has that was copied from a page: write the key anew"},
		{KeySource{File: write("nbsp", "sk-verysecret\u00a0\n")}, "", "config: the file " + dir + "/nbsp has characters that cannot be seen, as text has that was copied from a page: write the key anew"},
		{KeySource{File: write("mark", "\ufeff\n")}, "", "config: the file " + dir + "/mark is empty, must be a key"},
		{KeySource{File: write("plain", "sk-verysecret-plain")}, "sk-verysecret-plain", ""},
		{KeySource{File: write("empty", "\n")}, "", "config: the file " + dir + "/empty is empty, must be a key"},
		{KeySource{File: write("two", "sk-verysecret-1\nsk-verysecret-2\n")}, "", "config: the file " + dir + "/two has spaces or line ends inside, must be one key alone"},
		{KeySource{File: write("huge", strings.Repeat("verysecret", 1000))}, "", "config: the key in file " + dir + "/huge cannot be read: it has more than 8192 bytes"},
		{KeySource{File: dir + "/none"}, "", "config: the key in file " + dir + "/none cannot be read: no such file or directory"},
	} {
		key, err := c.source.Read()
		if got := fmt.Sprint(err); key.Reveal() != c.want || c.err == "" && err != nil || c.err != "" && got != c.err {
			t.Errorf("%v: %q, %v, want %q, %s", c.source, key.Reveal(), err, c.want, c.err)
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, key, key), "verysecret") {
			t.Errorf("%v shows the key: %v", c.source, err)
		}
	}
	_, err := Keys{Sources: []KeySource{{Env: "FLYBALL_TEST_KEY"}, {Env: "FLYBALL_TEST_NONE"}, {File: write("same", "sk-verysecret-env")}, {File: dir + "/none"}}}.Read()
	if err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.Contains(err.Error(), "/same has the same key as the environment variable FLYBALL_TEST_KEY") || strings.Contains(err.Error(), "verysecret") {
		t.Errorf("Read: %v", err)
	}
}

func TestUpstreamPool(t *testing.T) {
	t.Setenv("FLYBALL_TEST_A", "sk-a")
	t.Setenv("FLYBALL_TEST_B", "sk-b")
	const keys = "\n[[upstream.a.key]]\nenv = 'FLYBALL_TEST_A'\n[[upstream.a.key]]\nenv = 'FLYBALL_TEST_B'\n"
	for _, law := range append(Laws(), "") {
		for _, limit := range []string{"key", "account"} {
			src := "[upstream.a]\nlimit = '" + limit + "'\nkey_probe = '1m'\n"
			if law != "" {
				src += "law = '" + law + "'\n"
			}
			f, err := Parse("x.toml", []byte(src+keys))
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := f.Upstreams["a"].Pool()
			if err != nil {
				t.Fatal(err)
			}
			p, err := limiter.NewPool(cfg)
			if err != nil || p.Name() != "a" || p.Len() != 2 || p.Limit().String() != limit || len(p.Guards()) == 2 != (limit == "key") || cfg.Probe != time.Minute {
				t.Errorf("law %q, limit %s: %+v, %v", law, limit, cfg, err)
			}
		}
	}
	if _, err := Default().Upstreams["a"].Pool(); err == nil || !strings.Contains(err.Error(), "has no keys") {
		t.Errorf("no keys: %v", err)
	}
	f, _ := Parse("x.toml", []byte("[[upstream.a.key]]\nenv = 'FLYBALL_TEST_NONE'"))
	if _, err := f.Upstreams["a"].Pool(); err == nil || err.Error() != "upstream a: config: the environment variable FLYBALL_TEST_NONE is not set: set it to the key" {
		t.Errorf("a key that is not there: %v", err)
	}
}

// TestKeyInTheFile writes a key in all places where somebody might, and wants it not to be repeated.
func TestKeyInTheFile(t *testing.T) {
	for _, src := range []string{
		"[upstream.a]\nkey = 'KEY'",
		"[upstream.a]\nkey = KEY",
		"[upstream.a]\nkey = ['KEY']",
		"[upstream.a]\nkey = [\n'KEY',\n]",
		"[upstream.a]\nkey = [{env = 'KEY'}]",
		"[upstream.a]\nkey = [{value = 'KEY'}]",
		"[upstream.a]\nkey = {env = 'KEY'}",
		"[upstream.a]\nkey = 'KEY",
		"[upstream.a]\napi_key = 'KEY'",
		"[upstream.a]\napi_key = KEY",
		"[upstream.a]\ntoken = \"KEY",
		"[[upstream.a.key]]\nenv = 'KEY'",
		"[[upstream.a.key]]\nenv = KEY",
		"[[upstream.a.key]]\nfile = 'KEY'",
		"[[upstream.a.key]]\nfile = KEY",
		"[[upstream.a.key]]\nenv = ['KEY']",
		"[[upstream.a.key]]\nvalue = 'KEY'",
		"[[upstream.a.key]]\nKEY",
		"[upstream.a]\nKEY",
		"[upstream.a]\nbase_url = 'https://KEY@host'",
		"[upstream.a]\nbase_url = 'https://host?key=KEY'",
		"[upstream.a]\nbase_url = 'KEY'",
		"[upstream.a]\nkey_header = 'Bearer KEY'",
		"[upstream.a]\nkey_header = KEY",
		"[upstream.a]\nkey_prefix = KEY",
		"key = 'KEY'",
		"'KEY'",
		"[[upstream.a.key]]\n'KEY' = 1",
		"[upstream.a]\n'https://KEY@host' = 1",
		"[upstream.a]\nbase_url = https://KEY@host",
		"[upstream.a]\nbase_url = ['https://u:KEY@host']",
	} {
		for _, key := range []string{"sk-proj-verysecret", "gsk_verysecretverysecret", "AIzaVERYsecret0123456789abcdefghijk", "verysecret.0123456789012345.verysecret"} {
			_, err := Parse("x.toml", []byte(strings.ReplaceAll(src, "KEY", key)))
			var all strict.Errors
			if !errors.As(err, &all) {
				t.Errorf("%q with the key %s is accepted", src, key)
				continue
			}
			for i := range len(key) - 8 {
				if i > 4 && strings.Contains(err.Error(), key[i:i+8]) {
					t.Errorf("%q with the key %s gives %v", src, key, err)
					break
				}
			}
		}
	}
}

// A password in a URL has no form by which it would be told from a word, but its place.
func TestPasswordInAURL(t *testing.T) {
	for _, src := range []string{
		"[upstream.a]\nbase_url = 'https://u:hunter@host'",
		"[upstream.a]\nbase_url = https://u:hunter@host",
		"[upstream.a]\nbase_url = https://u:p@hunter@host",
		"[upstream.a]\nbase_url = ['https://:hunter@host']",
		"[upstream.a]\n'https://u:hunter@host' = 1",
		"[upstream.a]\nprovider = https://u:hunter@host",
		"[upstream.a]\nprovider = 'https://u:my hunter@host'",
		"[upstream.a]\nprovider = 'https://u:my\"hunter@host'",
		"[upstream.'https://u:hunter@host']\nmode = 1\nfoo = 1",
		"https://u:hunter@host",
	} {
		_, err := Parse("x.toml", []byte(src))
		if err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%q gives %v", src, err)
		}
	}
}
