package proxy

import "testing"

// What a reader of a stream can use ends with a line, and with no line that only says what the next one is.
func TestUsable(t *testing.T) {
	for whole, rest := range map[string]string{
		"":                         "",
		"data: 1\n":                "dat",
		"data: 1\n\n":              "event: x\nid: 1\n",
		"data: 1\r\n\r\n":          "event: x\r\nid: 1\r\ndata: {",
		"data: 1\r\r":              "event: x\rda",
		"event: x\ndata: 1\n":      "",
		"event: x\n\n":             "",
		": alive\n":                "",
		"data: event: x\n":         "event: y\n",
		"event: x\r\n\r\n: y\r\n":  "id: 7\r\n",
		"data: 1\n\nretry: 1000\n": "event: x\r",
	} {
		if n := usable([]byte(whole + rest)); n != len(whole) {
			t.Errorf("of %q a reader can use %q, want %q", whole+rest, (whole + rest)[:n], whole)
		}
	}
}
