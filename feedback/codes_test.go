package feedback

import (
	"fmt"
	"strings"
	"testing"
)

// carry puts a code where it belongs, in an answer that says nothing else.
func carry(place Place, code string) Answer {
	a := Answer{Status: 400, Now: noon}
	body := ""
	switch place {
	case PlaceAny:
		body = fmt.Sprintf(`{"error":{"code":%q}}`, code)
	case PlaceErrorCode:
		body = fmt.Sprintf(`{"error":{"code":%q}}`, code)
	case PlaceErrorType:
		body = fmt.Sprintf(`{"error":{"type":%q}}`, code)
	case PlaceTopCode:
		body = fmt.Sprintf(`{"code":%q,"message":"m"}`, code)
	case PlaceErrorNumber:
		a.Status = 200
		body = fmt.Sprintf(`{"error_code":%s,"error_msg":"m"}`, code)
	case PlaceBaseResp:
		a.Status = 200
		body = fmt.Sprintf(`{"base_resp":{"status_code":%s,"status_msg":"m"}}`, code)
	case PlaceGRPC:
		a.Status = 200
		a.Header = headers("Grpc-Status", code, "Content-Type", "application/grpc")
	case PlaceProblem:
		body = fmt.Sprintf(`{"type":"https://iana.org/assignments/http-problem-types#%s"}`, code)
	}
	a.Body = []byte(body)
	return a
}

// TestEveryCode tests every row of the table: the code in its place, in any letter case,
// has its meaning whatever the status, but for server_error; a number elsewhere has none.
func TestEveryCode(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Codes() {
		t.Run(c.Place.String()+"="+c.Code, func(t *testing.T) {
			key := c.Place.String() + "=" + strings.ToLower(c.Code)
			if seen[key] || c.Place != PlaceAny && seen["any="+strings.ToLower(c.Code)] {
				t.Errorf("the table has %s twice", key)
			}
			seen[key] = true
			if c.Provider == "" || c.Source == "" {
				t.Errorf("%s has no provider or source", c.Code)
			}
			if c.Class == OK || c.Class == Canceled {
				t.Errorf("%s means %v", c.Code, c.Class)
			}
			refusal := c.Class == Throttled || c.Class == QuotaExhausted
			if refusal == (c.Scope == ScopeNone) || c.Generic && (c.Class != Throttled || c.Scope != ScopeUnknown) {
				t.Errorf("%s means %v and %v", c.Code, c.Class, c.Scope)
			}
			for _, spelled := range []string{c.Code, strings.ToUpper(c.Code), strings.ToLower(c.Code)} {
				a := carry(c.Place, spelled)
				s := Parse(a)
				if s.Class != c.Class || s.Scope != c.Scope || s.Retryable != c.Retryable {
					t.Errorf("%s gives %s, want %v/%v retryable=%v", a.Body, short(s), c.Class, c.Scope, c.Retryable)
				}
				if want := "code:" + c.Code; s.Source != want {
					t.Errorf("%s has the source %q, want %q", a.Body, s.Source, want)
				}
				for _, status := range []int{401, 429, 500, 501, 503, 504} {
					if a.Status == 200 {
						break
					}
					want := c.Class
					if c.Code == "server_error" && (status == 429 || status == 503) { // as OpenAI says of an overloaded model
						want = byStatus(status).class
					}
					if a.Status = status; Parse(a).Class != want {
						t.Errorf("status %d with %s gives %s, want %v", status, a.Body, short(Parse(a)), want)
					}
				}
			}
			if strings.Trim(c.Code, "0123456789") != "" {
				return
			}
			for place := PlaceAny; place <= PlaceProblem; place++ {
				if place == c.Place || place == PlaceAny && c.Place == PlaceErrorCode {
					continue
				}
				taken := false
				for _, other := range Codes() {
					taken = taken || other.Code == c.Code && (other.Place == place || place == PlaceAny && other.Place == PlaceErrorCode)
				}
				if s := Parse(carry(place, c.Code)); !taken && strings.Contains(s.Source, "code:") && place != PlaceGRPC {
					t.Errorf("%s=%s gives %s by %q, want no meaning", place, c.Code, short(s), s.Source)
				}
			}
		})
	}
}

// TestNumbersAtZhipuAreStrings: "Zhipu's are strings in error.code".
func TestNumbersAtZhipuAreStrings(t *testing.T) {
	if s := Parse(Answer{Status: 429, Body: []byte(`{"error":{"code":1305}}`)}); s.Class != Throttled {
		t.Errorf("the number 1305 gives %s, want what 429 gives", short(s))
	}
}

// TestPlacesOfCodes reads one code in every place, and the first of two in their order.
func TestPlacesOfCodes(t *testing.T) {
	places := []func(code string) (header [2]string, body string){
		func(c string) ([2]string, string) { return [2]string{"X-Amzn-ErrorType", c}, `` },
		func(c string) ([2]string, string) { return [2]string{}, `"__type":"ns.sub#` + c + `"` },
		func(c string) ([2]string, string) {
			return [2]string{}, `"error":{"details":{"error_code":"` + c + `"}}`
		},
		func(c string) ([2]string, string) {
			return [2]string{}, `"error":{"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"` + c + `"}]}`
		},
		func(c string) ([2]string, string) {
			return [2]string{}, `"error":{"metadata":{"limit_source":"` + c + `"}}`
		},
		func(c string) ([2]string, string) { return [2]string{}, `"error":{"code":"` + c + `"}` },
		func(c string) ([2]string, string) { return [2]string{}, `"error":{"type":"` + c + `"}` },
		func(c string) ([2]string, string) { return [2]string{}, `"error":{"status":"` + c + `"}` },
		func(c string) ([2]string, string) { return [2]string{}, `"Response":{"Error":{"Code":"` + c + `"}}` },
		func(c string) ([2]string, string) { return [2]string{}, `"base_resp":{"status_code":"` + c + `"}` },
		func(c string) ([2]string, string) { return [2]string{}, `"error_code":"` + c + `"` },
		func(c string) ([2]string, string) {
			return [2]string{}, `"errors":[{},{"extensions":{"code":"` + c + `"}}]`
		},
		func(c string) ([2]string, string) { return [2]string{}, `"errors":[{"type":"` + c + `"}]` },
		func(c string) ([2]string, string) { return [2]string{}, `"detail":{"status":"` + c + `"}` },
		func(c string) ([2]string, string) { return [2]string{}, `"code":"` + c + `"` },
		func(c string) ([2]string, string) { return [2]string{}, `"type":"` + c + `"` },
		func(c string) ([2]string, string) { return [2]string{}, `"reason":"` + c + `"` },
	}
	read := func(parts ...[2]string) Signal { // header value and body fragment
		h, body := map[string][]string{}, []string{}
		for _, p := range parts {
			if p[0] != "" {
				h["X-Amzn-ErrorType"] = []string{p[0] + ":http://amazon"}
			}
			if p[1] != "" {
				body = append(body, p[1])
			}
		}
		return Parse(Answer{Status: 400, Header: h, Body: []byte("{" + strings.Join(body, ",") + "}"), Now: noon})
	}
	for i, first := range places {
		h, b := first("system_busy")
		one := [2]string{h[1], b}
		if s := read(one); s.Class != Overloaded || s.Source != "code:system_busy" {
			t.Errorf("place %d: %v gives %s by %q", i, one, short(s), s.Source)
		}
		for j, second := range places[i+1:] {
			h, b := second("slow_down")
			two := [2]string{h[1], b}
			if one[1] != "" && strings.SplitN(one[1], ":", 2)[0] == strings.SplitN(b, ":", 2)[0] {
				continue // two members of one name
			}
			for _, s := range []Signal{read(one, two), read(two, one)} {
				if s.Source != "code:system_busy" {
					t.Errorf("places %d and %d: %q decides, want the first", i, i+1+j, s.Source)
				}
			}
		}
	}
	// Within one error, too.
	for body, want := range map[string]string{
		`{"error":{"status":"UNAVAILABLE","type":"slow_down","code":"timeout_error"}}`: "code:timeout_error",
		`{"error":{"status":"UNAVAILABLE","type":"slow_down","code":"x"}}`:             "code:slow_down",
		`{"error":{"status":"UNAVAILABLE","type":"x"}}`:                                "code:UNAVAILABLE",
		// A generic code yields to any specific one.
		`{"error":{"code":"rate_limit_exceeded","type":"api_error"}}`:                    "code:api_error",
		`{"error":{"code":"rate_limit_exceeded","type":"x"},"reason":"TooManyRequests"}`: "code:rate_limit_exceeded",
	} {
		if s := Parse(Answer{Status: 400, Body: []byte(body)}); s.Source != want {
			t.Errorf("%s: %q decides, want %q", body, s.Source, want)
		}
	}
}

func TestACodeThatRepeatsTheStatusIsNone(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"code":"429","type":"slow_down"}}`: "throttled/requests retry",
		`{"error":{"code":429,"message":"tokens"}}`:   "throttled/tokens retry",
		`{"code":429,"message":"m"}`:                  "throttled/unknown retry",
	} {
		if got := short(Parse(Answer{Status: 429, Body: []byte(body)})); got != want {
			t.Errorf("%s = %s, want %s", body, got, want)
		}
	}
}

func TestInsufficientQuota(t *testing.T) {
	const plain = `{"error":{"code":"insufficient_quota","message":"m"}}`
	const link = `{"error":{"code":"insufficient_quota","message":"see https://help.aliyun.com/x"}}`
	for _, c := range []struct{ provider, body, want string }{
		{"", plain, "quota_exhausted/unknown"}, {"openai", plain, "quota_exhausted/unknown"},
		{"dashscope", plain, "throttled/tokens retry"}, {"Alibaba-DashScope-intl", plain, "throttled/tokens retry"},
		{"", link, "throttled/tokens retry"}, {"generic", link, "throttled/tokens retry"},
	} {
		if got := short(Parse(Answer{Status: 429, Body: []byte(c.body), Provider: c.provider})); got != c.want {
			t.Errorf("%s from %q = %s, want %s", c.body, c.provider, got, c.want)
		}
	}
}
