package feedback

import (
	"testing"
	"time"
)

// noon is the local clock of the tables, in a zone of its own.
var noon = time.Date(2026, 8, 20, 12, 0, 0, 0, time.FixedZone("", 2*3600))

// headers builds a header from names and values in turn; a name may repeat.
func headers(pairs ...string) map[string][]string {
	h := map[string][]string{}
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = append(h[pairs[i]], pairs[i+1])
	}
	return h
}

// answerCase is a row of a table: an answer and what describe says of its signal.
type answerCase struct {
	name   string
	status int
	header map[string][]string
	body   string
	want   string
}

func runAnswers(t *testing.T, cases []answerCase) {
	t.Helper()
	for _, c := range cases {
		name := c.name
		if name == "" {
			name = c.body
		}
		t.Run(name, func(t *testing.T) {
			t.Helper()
			got := Parse(Answer{Status: c.status, Header: c.header, Body: []byte(c.body), Now: noon})
			if describe(got) != c.want {
				t.Errorf("Parse(%d, %v, %q)\n got %s (%s)\nwant %s", c.status, c.header, c.body, describe(got), got.Source, c.want)
			}
		})
	}
}

// short writes class and scope, and the delay when there is one.
func short(s Signal) string {
	out := s.Class.String() + "/" + s.Scope.String()
	if s.Retryable {
		out += " retry"
	}
	if s.HasRetryAfter {
		out += " " + s.RetryAfter.String()
	}
	return out
}
