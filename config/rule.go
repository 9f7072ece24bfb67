package config

import (
	"errors"
	"strconv"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/feedback"
)

type feedbackTable struct {
	Rule []ruleTable `toml:"rule" len:"..1000"`
}

// ruleTable is a feedback.Rule as it is written.
type ruleTable struct {
	Name        string         `toml:"name" required:"true" len:"1..64"`
	Provider    provider       `toml:"provider"`
	Status      *int           `toml:"status" range:"200..599"`
	Header      *string        `toml:"header" len:"1..256"`
	HeaderValue *string        `toml:"header_value" len:"1..256"`
	Code        *string        `toml:"code" len:"1..256"`
	Text        *string        `toml:"text" len:"1..1024"`
	Class       string         `toml:"class" required:"true" choice:"ok|throttled|quota_exhausted|overloaded|timeout|client_error|server_error"`
	Scope       *string        `toml:"scope" choice:"none|unknown|requests|tokens|input_tokens|output_tokens|concurrency|daily"`
	Delay       *time.Duration `toml:"delay" range:"1ms..24h"`
	Retryable   *bool          `toml:"retryable"`
}

func (r *ruleTable) rule() feedback.Rule {
	retryable := ""
	if r.Retryable != nil {
		retryable = strconv.FormatBool(*r.Retryable)
	}
	return feedback.Rule{
		Name: r.Name, Provider: string(r.Provider), Status: or(r.Status, 0),
		Header: or(r.Header, ""), HeaderValue: or(r.HeaderValue, ""), Code: or(r.Code, ""), Text: or(r.Text, ""),
		Class: r.Class, Scope: or(r.Scope, ""), Delay: or(r.Delay, 0), Retryable: retryable,
	}
}

// CheckEagerly reports what package feedback does not accept.
func (f *feedbackTable) CheckEagerly(k strict.Key) {
	var rules []feedback.Rule
	var keys []strict.Key
	for i := range f.Rule {
		if at := k.At("rule").Index(i); at.Sound() {
			rules, keys = append(rules, f.Rule[i].rule()), append(keys, at)
		}
	}
	_, err := feedback.CompileRules(rules)
	for _, e := range parts(err) {
		var re *feedback.RuleError
		if !errors.As(e, &re) || re.Index < 0 || re.Index >= len(keys) {
			k.At("rule").Errorf("cannot be used: %v", e)
			continue
		}
		at := keys[re.Index].At(re.Field)
		problem := "is missing"
		if at.Given() {
			problem = "is " + at.Found()
		}
		at.Error(problem, re.Want, "")
	}
}

// parts returns the errors that err joins, or err itself.
func parts(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}
