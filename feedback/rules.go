package feedback

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Rule is a user's own reading of an answer. Rules come before everything that this package
// knows. A rule matches when all its conditions do; the first rule that matches decides.
//
// A rule without Status is asked about refusals only: answers of 400 and above, and the
// errors in the body or stream of a 2xx. A rule with a Status from 200 to 299 is asked
// about successes with that status, too.
type Rule struct {
	// Name identifies the rule in Signal.Source. Required and unique: lower-case letters,
	// digits, dots, hyphens and underscores, at most 64.
	Name string `toml:"name"`

	// Provider is the hint that the answer must come with, in any letter case. Empty means any.
	Provider string `toml:"provider"`
	// Status is the HTTP status, 200 to 599. Zero means any refusal.
	Status int `toml:"status"`
	// Header is the name of a field that must be there, in any letter case.
	Header string `toml:"header"`
	// HeaderValue is what a value of Header must contain, in any letter case. Empty means any value.
	HeaderValue string `toml:"header_value"`
	// Code is a code that the answer must carry in one of the places where codes are read,
	// in any letter case. A code that only repeats the status is none.
	Code string `toml:"code"`
	// Text is what the sentences of the body must contain, in any letter case and with runs
	// of white space as one space. With the prefix "re:" it is a regular expression.
	Text string `toml:"text"`

	// Class is the class that the answer gets, as Class.String writes it. Required; "canceled" is no
	// answer's class.
	Class string `toml:"class"`
	// Scope is the limit that refused, as Scope.String writes it. Empty means what the answer says for
	// throttled, unknown for quota_exhausted and none for the other classes.
	Scope string `toml:"scope"`
	// Delay is the delay for an answer that names none (>= 0). Zero means none.
	Delay time.Duration `toml:"delay"`
	// Retryable is "true" or "false" and then goes before the upstream's own word. Empty means
	// what is usual for the class.
	Retryable string `toml:"retryable"`
}

// Rules are compiled rules. They are read-only and safe for concurrent use. A nil *Rules
// has no rules.
type Rules struct {
	list []rule
	// onSuccess says that some rules are about a status of 2xx.
	onSuccess bool
}

type rule struct {
	Rule
	class     Class
	scope     Scope
	retryable bool
	text      string
	re        *regexp.Regexp
}

// RuleError says what is wrong with one field of a rule.
type RuleError struct {
	// Index is the rule's place in the list, from 0, and Name its name, perhaps empty.
	Index int
	Name  string
	// Field is the name of the field as in the configuration, Value what it holds and Want what
	// it may hold.
	Field, Value, Want string
}

// Error implements error.
func (e *RuleError) Error() string {
	return fmt.Sprintf("feedback: rule %d (%q): %s = %q, want %s", e.Index+1, e.Name, e.Field, e.Value, e.Want)
}

// CompileRules checks the rules and prepares them for Parse. The error joins one *RuleError
// for everything that is wrong.
func CompileRules(list []Rule) (*Rules, error) {
	var errs []error
	rs := &Rules{list: make([]rule, 0, len(list))}
	seen := make(map[string]int, len(list))
	for i, in := range list {
		bad := func(field, value, want string) {
			errs = append(errs, &RuleError{Index: i, Name: in.Name, Field: field, Value: value, Want: want})
		}
		r := rule{Rule: in}

		if !validName(in.Name) {
			bad("name", in.Name, "1 to 64 lower-case letters, digits, dots, hyphens and underscores")
		} else if first, dup := seen[in.Name]; dup {
			bad("name", in.Name, fmt.Sprintf("a name of its own; rule %d has it", first+1))
		} else {
			seen[in.Name] = i
		}
		if in.Status != 0 && (in.Status < 200 || in.Status > 599) {
			bad("status", statusText(in.Status), "0 for any refusal, or 200 to 599")
		}
		if in.Header != "" && !validFieldName(in.Header) {
			bad("header", in.Header, "the name of a header field")
		}
		if in.HeaderValue != "" && in.Header == "" {
			bad("header_value", in.HeaderValue, "nothing, or a header as well")
		}
		if in.Status == 0 && in.Header == "" && in.Code == "" && in.Text == "" {
			bad("status", "0", "at least one of status, header, code and text")
		}
		success := 200 <= in.Status && in.Status < 300
		if success && in.Header == "" && in.Code == "" && in.Text == "" {
			bad("status", statusText(in.Status), "a header, code or text as well, because it is a success")
		}
		if pattern, isRE := strings.CutPrefix(in.Text, "re:"); isRE {
			var err error
			if r.re, err = regexp.Compile("(?i:" + pattern + ")"); err != nil {
				bad("text", in.Text, "a regular expression after re: ("+err.Error()+")")
			} else if r.re.MatchString("") {
				bad("text", in.Text, "a regular expression that does not match everything")
			}
		} else if r.text = normalize(in.Text); in.Text != "" && strings.TrimSpace(r.text) == "" {
			bad("text", in.Text, "a text that is not blank")
		}

		var ok bool
		if r.class, ok = ParseClass(in.Class); !ok || r.class == Canceled {
			bad("class", in.Class, "one of "+strings.Join(classNames[:Canceled], ", "))
			ok = false
		}
		refusal := r.class == Throttled || r.class == QuotaExhausted
		if in.Scope != "" {
			var known bool
			r.scope, known = ParseScope(in.Scope)
			switch {
			case !known:
				bad("scope", in.Scope, "one of "+strings.Join(scopeNames[:], ", "))
			case ok && !refusal && r.scope != ScopeNone:
				bad("scope", in.Scope, "none or nothing, because class "+in.Class+" is about no limit")
			case ok && refusal && r.scope == ScopeNone:
				bad("scope", in.Scope, "a limit or nothing, because class "+in.Class+" is about one")
			case ok && r.class == Throttled && r.scope == ScopeDaily:
				bad("scope", in.Scope, "another limit, or class quota_exhausted: a daily limit does not refill in time")
			}
		}
		if in.Delay < 0 {
			bad("delay", in.Delay.String(), "a duration of 0 or more")
		} else if ok && r.class == OK && in.Delay != 0 {
			bad("delay", in.Delay.String(), "0, because class ok has no delay")
		}
		switch in.Retryable {
		case "":
			r.retryable = r.class == Throttled || r.class == Overloaded || r.class == Timeout || r.class == ServerError
		case "true", "false":
			r.retryable = in.Retryable == "true"
			if ok && r.class == OK {
				bad("retryable", in.Retryable, "nothing, because class ok is not retried")
			}
		default:
			bad("retryable", in.Retryable, `"true", "false" or nothing`)
		}
		rs.onSuccess = rs.onSuccess || success
		rs.list = append(rs.list, r)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return rs, nil
}

func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z') && !isDigit(c) && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 64
}

func validFieldName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isLetter(c) && !isDigit(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// aboutSuccess reports whether a rule may match a success with this status.
func (rs *Rules) aboutSuccess(status int) bool {
	if rs == nil || !rs.onSuccess || status < 200 || status > 299 {
		return false
	}
	for i := range rs.list {
		if rs.list[i].Status == status {
			return true
		}
	}
	return false
}

// match returns the first rule that matches. success says that nothing but a rule would
// take the answer for an error.
func (rs *Rules) match(e *evidence, status int, header map[string][]string, success bool) *rule {
	if rs == nil {
		return nil
	}
	for i := range rs.list {
		r := &rs.list[i]
		if success && (r.Status < 200 || r.Status > 299) {
			continue
		}
		if r.Status != 0 && r.Status != status && r.Status != e.status {
			continue
		}
		if r.Provider != "" && !strings.EqualFold(r.Provider, e.provider) {
			continue
		}
		if r.Header != "" && !headerContains(header, r.Header, r.HeaderValue) {
			continue
		}
		if r.Code != "" && !e.hasCode(r.Code) {
			continue
		}
		if r.re != nil && !r.re.MatchString(e.text) || r.text != "" && !strings.Contains(e.text, r.text) {
			continue
		}
		return r
	}
	return nil
}

func (e *evidence) hasCode(code string) bool {
	for _, c := range e.codes {
		if strings.EqualFold(c.text, code) {
			return true
		}
	}
	return false
}

// headerContains reports whether a value of the field contains want, in any letter case.
func headerContains(header map[string][]string, name, want string) bool {
	for n, values := range header {
		if !strings.EqualFold(n, name) {
			continue
		}
		for _, v := range values {
			if strings.Contains(strings.ToLower(v), strings.ToLower(want)) {
				return true
			}
		}
	}
	return false
}
