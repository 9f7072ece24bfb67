package dialect

import (
	"bytes"
	"fmt"
	"mime/multipart"
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

// Another model takes the place of the one that a path names, and nothing else changes.
func TestSetPathModel(t *testing.T) {
	for path, want := range map[string]string{
		"/v1beta/models/gemini-2.5-flash:generateContent":        "/v1beta/models/o%2F%20x:generateContent",
		"/v1beta/models/gemini-2.5-flash%3AcountTokens":          "/v1beta/models/o%2F%20x%3AcountTokens",
		"/v1beta/models/a:b%3agenerateContent":                   "/v1beta/models/o%2F%20x%3agenerateContent",
		"/openai/deployments/my%20gpt/chat/completions":          "/openai/deployments/o%2F%20x/chat/completions",
		"/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke": "/model/o%2F%20x/invoke",
		"/v1/models/gpt-4o":                                      "/v1/models/gpt-4o",
		"/v1/chat/completions":                                   "/v1/chat/completions",
		"/v1beta/models/:method":                                 "/v1beta/models/:method",
		"":                                                       "",
	} {
		if got := SetPathModel(path, "o/ x"); got != want {
			t.Errorf("%s becomes %s, want %s", path, got, want)
		}
	}
	if got := SetPathModel("/models/a:generateContent", "models/b"); got != "/models/b:generateContent" {
		t.Errorf("a name with models/ before it makes %s", got)
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

// form returns a form with the given fields in turn, and its Content-Type.
func form(t *testing.T, fields ...string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		part, err := w.CreateFormField(fields[i])
		if fields[i] == "file" {
			part, err = w.CreateFormFile("file", "model")
		}
		if err != nil {
			t.Fatal(err)
		}
		_, _ = part.Write([]byte(fields[i+1]))
	}
	_ = w.Close()
	return w.FormDataContentType(), b.String()
}

func TestFormModel(t *testing.T) {
	sound := strings.Repeat("\r\n--x\x00name=\"model\"", 100_000)
	for _, c := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"first", []string{"model", "whisper-1", "file", sound}, "whisper-1"},
		{"last", []string{"file", sound, "language", "de", "model", "whisper-1"}, "whisper-1"},
		{"none", []string{"file", sound}, ""},
		{"empty", []string{"model", ""}, ""},
		{"two", []string{"model", "a", "model", "b"}, "a"},
		{"too long", []string{"model", strings.Repeat("a", longestField+1)}, ""},
		{"behind too many", append(strings.Split(strings.Repeat("x,", 2*mostFields), ",")[:2*mostFields], "model", "a"), ""},
	} {
		kind, body := form(t, c.fields...)
		if got := FormModel(kind, strings.NewReader(body)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	kind, body := form(t, "model", "m", "file", sound)
	for wrong, body := range map[string]string{"": body, "text/plain": body, "multipart/form-data": body, "multipart/form-data; boundary=other": body, kind: body[:len(body)/2][:80]} {
		if got := FormModel(wrong, strings.NewReader(body)); got != "" {
			t.Errorf("%s with %.100q: %q", wrong, body, got)
		}
	}
}

// Little is kept of a form, whatever is before its fields: no more is read of that than fits.
func TestFormModelReadsNoLongHeaders(t *testing.T) {
	const field = "Content-Disposition: form-data; name=\"%s\"\r\n\r\nm\r\n--b"
	model, other := fmt.Sprintf(field, "model"), fmt.Sprintf(field, "file")
	for name, c := range map[string]struct{ before, want string }{
		"short":            {"--b\r\nX: " + strings.Repeat("a", longestHeader/2) + "\r\n", "m"},
		"short, the next":  {"--b\r\n" + other + "\r\nX: " + strings.Repeat("a", longestHeader/2) + "\r\n", "m"},
		"one line":         {"--b\r\nX: " + strings.Repeat("a", 8<<20) + "\r\n", ""},
		"many lines":       {"--b\r\n" + strings.Repeat("X: a\r\n", 1<<16), ""},
		"before the first": {strings.Repeat("\n", 8<<20) + "--b\r\n", ""},
		"the next":         {"--b\r\n" + other + "\r\nX: " + strings.Repeat("a", 8<<20) + "\r\n", ""},
	} {
		form := strings.NewReader(c.before + model + "--\r\n")
		size := form.Len()
		if got := FormModel("multipart/form-data; boundary=b", form); got != c.want || size-form.Len() > 2*longestHeader {
			t.Errorf("%s: %q, %d of %d bytes were read; want %q", name, got, size-form.Len(), size, c.want)
		}
	}
}

func FuzzFormModel(f *testing.F) {
	f.Add("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n")
	f.Add("multipart/form-data; boundary=\"b b\"", "--b b\nContent-Disposition: form-data; name=model\n\nm")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		if got := FormModel(contentType, strings.NewReader(body)); len(got) > longestField || !strings.Contains(body, got) {
			t.Errorf("%q with %q: %q", contentType, body, got)
		}
	})
}
