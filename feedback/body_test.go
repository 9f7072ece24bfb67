package feedback

import (
	"strings"
	"testing"
)

// TestText: what is read as sentences, by the shape of the body.
func TestText(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"message":"A"}}`: "a", `{"error":"A"}`: "a", `{"message":"A  b\n\tc"}`: "a b c", `"A b"`: "a b", `["A",["b"]]`: "a b", `[1]`: "",
		`{"error":{"message":{"text":"A","n":1}}}`: "a", `{"error":{"message":["A","b"]}}`: "a b", `{"Response":{"Error":{"Message":"A"}}}`: "a", `{"base_resp":{"status_msg":"A"}}`: "a",
		`{"error_msg":"A"}`: "a", `{"detail":"A"}`: "a", `{"detail":{"message":"A"}}`: "a", `{"detail":[{"msg":"A"}]}`: "a", `{"errors":"A"}`: "a", `{"errors":["A",{"message":"b"}]}`: "a b",
		`{"title":"A","detail":"b"}`: "a b", `{"error":{"metadata":{"raw":"A"}}}`: "a", `{"response":{"error":{"message":"A"}}}`: "a",
		// Not sentences: codes, links, labels, echoed prompts, typed details.
		`{"message":"A","documentation_url":"tokens"}`: "a", `{"title":"A","violated-policies":["daily"]}`: "a", `{"error":{"message":"A","type":"tokens","param":"tokens"}}`: "a",
		`{"error":{"message":"A","details":[{"@type":"google.rpc.Help","links":[{"description":"per day"}]}]}}`: "a", `{"message":"A","input":"tokens per day"}`: "a",
		// A body of an unknown shape: every string with a space.
		`{"fault":{"faultstring":"A b","code":"tokens"}}`: "a b", `{"x":{"y":["A b"]}}`: "a b", `{"x y":"z"}`: "",
		// What is no JSON is text, without tags.
		`A <b>b</b>c`: "a b c", `<html><STYLE>p{}</style><script src=x>tokens()</SCRIPT><p title="x">A</p>`: " a ", `a < b > c`: "a < b > c", `5<6`: "5<6", `a <`: "a <", `a <b`: "a <b", `<!-- x -->A`: " a", `<script>A`: " a",
		`{"error":{"message":"A`: `{"error":{"message":"a`, `{"a":1} x`: `{"a":1} x`, "": "", "\xef\xbb\xbf{\"message\":\"A\"}": "a", `{"message":"\u5e76\u53d1"}`: "并发", `{"message":"\ud800"}`: "\ufffd", "\xff\xfeA": "\xff\xfea",
		`{"message":null}`: "", `{"message":7}`: "", `{"message":"a","message":"b"}`: "a b",
	} {
		if got := readDocument([]byte(body)).text; strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("text of %s = %q, want %q", body, got, want)
		}
	}
}

// TestOnly64KiBAreLookedAt: what comes later does not count, and JSON that is cut is text.
func TestOnly64KiBAreLookedAt(t *testing.T) {
	pad := strings.Repeat(" ", maxBody)
	for body, want := range map[string]string{
		pad + "tokens per minute":                                   "throttled/unknown retry",
		"tokens per minute" + pad:                                   "throttled/tokens retry",
		`{"error":{"code":"insufficient_quota"}}` + pad + "x":       "quota_exhausted/unknown",
		`{"error":{"code":"insufficient_quota","x":"` + pad + `"}}`: "throttled/unknown retry",
	} {
		if got := short(Parse(Answer{Status: 429, Body: []byte(body)})); got != want {
			t.Errorf("%.50q of %d bytes = %s, want %s", body, len(body), got, want)
		}
	}
	if got := short(Parse(Answer{Status: 200, Body: []byte(`{"x":"` + pad + `","error":1}`)})); got != "ok/none" {
		t.Errorf("an error after 64 KiB of a success = %s", got)
	}
}

func TestValue(t *testing.T) {
	v, ok := parseJSON([]byte(` {"a" : {"b":[1, {"c":"d\"}"} ,"e"]} , "\u0061\"" : -1.5e3, "n":null , "a2":{}} `))
	if !ok {
		t.Fatal("parseJSON failed")
	}
	if s, _ := v.at("a").get("b").scalar(); s != "" {
		t.Errorf("an array is a scalar: %q", s)
	}
	var got []string
	v.at("a", "b").elements(func(e value) bool { got = append(got, string(e)); return len(got) < 2 })
	if strings.Join(got, "|") != `1|{"c":"d\"}"}` {
		t.Errorf("elements %q", got)
	}
	if s, ok := v.get(`a"`).scalar(); s != "-1.5e3" || !ok {
		t.Errorf("a name with escapes: %q, %v", s, ok)
	}
	for name, want := range map[string]bool{"n": true, "a2": true, "none": true, "a": false, `a"`: false} {
		if v.get(name).empty() != want {
			t.Errorf("%s is empty: %v, want %v", name, !want, want)
		}
	}
	for _, zero := range []string{"0", "-0", "0.0", "0e5", "0.00E-7"} {
		if !value(zero).empty() {
			t.Errorf("%s is not zero", zero)
		}
	}
	// The readers survive what is no JSON.
	for _, s := range []string{"{", "[", `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":"`, `{"a":1`, `{"a" 1}`, `{a:1}`, `[1`, `["`, `{"a":[}`, `[1 2]`, `{,}`, `[,]`, `{"a":}`, "]", `"`, `"\`} {
		v := value(s)
		v.get("a").get("b")
		v.elements(func(e value) bool { e.text(); return true })
		v.text()
		v.empty()
		suspect([]byte(s))
	}
}
