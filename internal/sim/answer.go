package sim

import (
	"fmt"
	"strconv"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// answer is what an attempt ends with, as package feedback read it.
type answer struct {
	status  int // 0: the caller gave up
	retry   bool
	outcome adaptive.Outcome
}

// answers makes every distinct answer once and remembers what feedback made of it. Answers are
// real: a status, header fields and a body, read by the code that reads them in production.
type answers struct {
	all  []answer
	said []map[int64]int // for each stage: the number that its Retry-After names -> index in all
}

// The answers that do not depend on the configuration.
const (
	answerOK     = 0 // 200
	answerGaveUp = 1 // none: the caller's patience ended
)

func newAnswers(stages int) *answers {
	a := &answers{said: make([]map[int64]int, stages)}
	for i := range a.said {
		a.said[i] = map[int64]int{}
	}
	a.add(200, nil, nil)
	a.all = append(a.all, answer{outcome: adaptive.Outcome{Class: feedback.Canceled}})
	return a
}

// add reads an answer and keeps it.
func (a *answers) add(status int, h map[string][]string, body []byte) int {
	s := read(status, h, body)
	a.all = append(a.all, answer{
		status: status,
		retry:  s.Retryable,
		outcome: adaptive.Outcome{
			Class: s.Class, Scope: s.Scope,
			HasRetryAfter: s.HasRetryAfter, RetryAfter: s.RetryAfter,
			Windows: s.Windows,
		},
	})
	return len(a.all) - 1
}

// refusal returns the answer of a stage that says no at now and would say yes at until.
func (a *answers) refusal(stage int, cfg *Answer, now, until int64) int {
	var said int64 = -1
	switch cfg.RetryAfter {
	case RetryExact:
		said = ceilTo(until-now, int64(time.Second))
	case RetryExactMS:
		said = ceilTo(until-now, int64(time.Millisecond))
	case RetryConstant:
		said = ceilTo(int64(cfg.Delay), int64(time.Second))
	}
	if until == never && cfg.RetryAfter != RetryConstant {
		said = -1
	}
	if i, ok := a.said[stage][said]; ok {
		return i
	}
	h := map[string][]string{}
	if said >= 0 {
		name := "Retry-After"
		if cfg.RetryAfter == RetryExactMS {
			name = "Retry-After-Ms"
		}
		h[name] = []string{strconv.FormatInt(said, 10)}
	}
	if cfg.Body != "" {
		h["Content-Type"] = []string{"application/json"}
	}
	i := a.add(cfg.Status, h, []byte(cfg.Body))
	a.said[stage][said] = i
	return i
}

func ceilTo(ns, unit int64) int64 { return (max(0, ns) + unit - 1) / unit }

// understood reports an answer that package feedback takes for something else than the refusal it is.
func (a *answers) understood() error {
	for _, x := range a.all[2:] {
		if x.outcome.Class == feedback.OK {
			return fmt.Errorf("sim: feedback reads a refusal with status %d as OK", x.status)
		}
	}
	return nil
}
