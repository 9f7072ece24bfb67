package feedback

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestLineEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(strings.Repeat("x", rapid.IntRange(0, 1200).Draw(t, "length")))
		for _, at := range rapid.SliceOfN(rapid.IntRange(0, 1200), 0, 4).Draw(t, "ends") {
			if at < len(b) {
				b[at] = rapid.SampledFrom([]byte("\r\n")).Draw(t, "end")
			}
		}
		if got, want := lineEnd(b), bytes.IndexAny(b, "\r\n"); got != want {
			t.Fatalf("the first line of %q ends at %d, want %d", b, got, want)
		}
	})
}

// The words by which an event is suspected may be hidden by escapes.
func TestSuspectEvent(t *testing.T) {
	for data, want := range map[string]bool{
		`{"choices":[{"delta":{"content":"the error"}}],"usage":null}`: false,
		`{"error":{"message":"x"}}`:                                    true,
		`{"error":null,"choices":[]}`:                                  false,
		`{"\u0065rror":{"message":"x"}}`:                               true,
		`{"type":"error"}`:                                             true,
		`{"type":"response.failed"}`:                                   true,
		`{"type":"\u0065rror"}`:                                        true,
		`{"base_resp":{"status_code":1002}}`:                           true,
		`{"base_resp":{"status_code":0}}`:                              false,
		`[{"code":"x"}]`:                                               true,
		`{"choices":[{"delta":{"content":"a\nb"}}]}`:                   false,
		`{"choices":[{"delta":{"content":"\"error\""}}]}`:              false,
	} {
		if got := suspectEvent(event{data: []byte(data)}); got != want {
			t.Errorf("%s: suspected %v, want %v", data, got, want)
		}
		c := noCounts
		if _, _, got := c.observe(value(data)); got != want && data[0] == '{' {
			t.Errorf("%s: suspected %v beside usage and content, want %v", data, got, want)
		}
	}
}
