package dialect

import (
	"net/url"
	"strings"
	"testing"
)

func TestModelOfPathAndQuery(t *testing.T) {
	for call, want := range map[string]string{
		"/v1beta/models/gemini-2.5-flash:generateContent":                                          "gemini-2.5-flash",
		"/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse":                            "gemini-2.5-flash",
		"/v1beta/models/gemini-2.5-flash%3AcountTokens":                                            "gemini-2.5-flash",
		"/v1/projects/p/locations/l/publishers/anthropic/models/claude-3-5@20240620:rawPredict":    "claude-3-5@20240620",
		"/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21":                     "my gpt",
		"/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke":                                   "anthropic.claude-3-haiku-20240307-v1:0",
		"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.nova/converse-stream": "arn:aws:bedrock:us-east-1:1:inference-profile/us.nova",
		"/v1/realtime?x=1&model=gpt-realtime%20x":                                                  "gpt-realtime x",
		"/v1/realtime?%zz&model=m":                                                                 "m",
		"/v1/models":                                                                               "",
		"/v1/models/gpt-4o":                                                                        "",
		"/v1/models/owner/name/predictions":                                                        "",
		"/openai/deployments":                                                                      "",
		"/openai/deployments/":                                                                     "",
		"/openai/deployments/gpt":                                                                  "",
		"/model/info":                                                                              "",
		"/model/x/info":                                                                            "",
		"/v1/chat/completions":                                                                     "",
		"/v1/realtime?submodel=x":                                                                  "",
		"":                                                                                         "",
		"/v1/models/%zz:generateContent":                                                           "%zz",
		"/v1beta/models/:generateContent":                                                          "",
		"/v1beta/models/a:b:generateContent":                                                       "a:b",
		"/v1beta//models/a:generateContent":                                                        "a",
		"/v1/deployments/a/model/b/invoke":                                                         "a",
	} {
		path, query, _ := strings.Cut(call, "?")
		got := PathModel(path)
		if got == "" {
			got = QueryModel(query)
		}
		if got != want {
			t.Errorf("%s names %q, want %q", call, got, want)
		}
	}
}

// Whatever a path is, the model is a part of it.
func FuzzPathModel(f *testing.F) {
	f.Add("/v1beta/models/gemini:generateContent")
	f.Add("/deployments/a%2Fb/x")
	f.Fuzz(func(t *testing.T, path string) {
		name := PathModel(path)
		if plain, err := url.PathUnescape(path); err == nil && !strings.Contains(plain, name) {
			t.Errorf("%q names %q", path, name)
		}
	})
}
