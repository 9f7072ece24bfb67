package httplimit

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// invalidKey are the codes by which upstreams say that they do not accept a key, in lower case, where the status is
// not always 401: OpenAI and those who copy it, Anthropic, Google (google.rpc.ErrorInfo), Moonshot,
// Alibaba, Baidu. Codes are compared whole; sentences prove nothing, because they may repeat what the
// caller wrote, and whoever may write a prompt must not be able to take keys out.
var invalidKey = map[string]bool{
	"invalid_api_key":              true,
	"account_deactivated":          true,
	"authentication_error":         true,
	"invalid_authentication":       true,
	"invalid_authentication_error": true,
	"api_key_invalid":              true,
	"api_key_expired":              true,
	"invalidapikey":                true,
	"invalid_iam_token":            true,
	"unauthenticated":              true,
}

// notThis are the codes by which upstreams say with a 401 that the key is good, and not for this request: OpenAI, when the request names an
// organization or a project that the key is not of (OpenAI-Organization, OpenAI-Project), or an endpoint that a restricted key may not use; LiteLLM,
// for a model. Whoever may write a request's header, path or model must not be able to take keys out, either.
var notThis = map[string]bool{
	"mismatched_organization":      true,
	"mismatched_project":           true,
	"invalid_organization":         true,
	"missing_scope":                true,
	"key_model_access_denied":      true,
	"team_model_access_denied":     true,
	"user_model_access_denied":     true,
	"org_model_access_denied":      true,
	"project_model_access_denied":  true,
	"end_user_model_access_denied": true,
}

// missingScopes is how OpenAI begins to say missing_scope where it sends no code. A sentence may acquit a key, as nothing is taken out then.
const missingScopes = "You have insufficient permissions for this operation. Missing scopes:"

// fault returns what an attempt says of the key that it was sent with.
func fault(f *failed) limiter.KeyFault {
	if f.resp == nil {
		return limiter.KeyFine
	}
	return KeyFault(f.resp.StatusCode, f.Class, f.prefix)
}

// KeyFault returns what an answer says of the key that it was sent with, by its status, the class that feedback.Parse gave it, and
// the beginning of its body, which may be empty. It is for programs that send with a limiter.Pool and without a PoolTransport.
func KeyFault(status int, class feedback.Class, body []byte) limiter.KeyFault {
	switch class {
	case feedback.QuotaExhausted:
		if feedback.Parse(feedback.Answer{Status: status, Body: body}).Zero {
			return limiter.KeyForbidden // Gemini, for a model that is not in the plan; others are
		}
		return limiter.KeyExhausted
	case feedback.ClientError:
	default:
		return limiter.KeyFine
	}
	body = errorObject(body)
	switch {
	case says(body, invalidKey), refusedInside(body), status == http.StatusUnauthorized && !says(body, notThis) && !lacksScopes(body):
		return limiter.KeyUnauthorized
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return limiter.KeyForbidden
	}
	return limiter.KeyFine
}

// faultInside returns what an error inside an answer that began well says of the key.
func faultInside(s *feedback.Signal) limiter.KeyFault {
	code, _, _ := strings.Cut(s.Source, " ")
	switch {
	case s.Zero:
		return limiter.KeyForbidden
	case s.Class == feedback.QuotaExhausted:
		return limiter.KeyExhausted
	case s.Class == feedback.ClientError && (code == "code:1004" || code == "code:2049"): // MiniMax, base_resp: not signed in, invalid key
		return limiter.KeyUnauthorized
	}
	return limiter.KeyFine
}

// errorObject returns the object that tells of an error: the body, or, of a list such as Gemini's stream without alt=sse, the first
// element that has one, as feedback.Parse reads it.
func errorObject(body []byte) []byte {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	var list []json.RawMessage
	if json.Unmarshal(body, &list) != nil {
		return body
	}
	for _, one := range list {
		var e struct {
			Error json.RawMessage `json:"error"`
		}
		if json.Unmarshal(one, &e) == nil && e.Error != nil {
			return one
		}
	}
	return nil
}

// refusedInside reports whether a body has one of the codes by which MiniMax refuses a key; see faultInside.
func refusedInside(body []byte) bool {
	var b struct {
		Base struct {
			Code int `json:"status_code"`
		} `json:"base_resp"`
	}
	return json.Unmarshal(body, &b) == nil && (b.Base.Code == 1004 || b.Base.Code == 2049)
}

// lacksScopes reports whether a body says missing_scope in words.
func lacksScopes(body []byte) bool {
	var b struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	return json.Unmarshal(body, &b) == nil && strings.HasPrefix(b.Error.Message, missingScopes)
}

// says reports whether a body has one of some codes in one of the places where codes stand.
func says(body []byte, some map[string]bool) bool {
	type codes struct {
		Code    any             `json:"code"`
		Type    any             `json:"type"`
		Status  any             `json:"status"`
		Details json.RawMessage `json:"details"`
	}
	var b struct {
		codes
		Error json.RawMessage `json:"error"`
	}
	if len(body) == 0 || json.Unmarshal(body, &b) != nil {
		return false
	}
	var inner codes
	_ = json.Unmarshal(b.Error, &inner) // it may be a sentence
	for _, c := range []codes{b.codes, inner} {
		for _, v := range []any{c.Code, c.Type, c.Status} {
			if s, ok := v.(string); ok && some[strings.ToLower(s)] {
				return true
			}
		}
		var details []struct {
			Reason string `json:"reason"`
		}
		_ = json.Unmarshal(c.Details, &details)
		for _, d := range details {
			if some[strings.ToLower(d.Reason)] {
				return true
			}
		}
	}
	return false
}
