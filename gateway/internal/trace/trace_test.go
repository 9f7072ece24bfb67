package trace

import (
	"net/http"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for s, ok := range map[string]bool{
		"00-" + id + "-" + span + "-01":                      true,
		"00-" + id + "-" + span + "-00":                      true,
		"01-" + id + "-" + span + "-01-more":                 true, // of a later version
		"00-" + id + "-" + span + "-01-more":                 false,
		"ff-" + id + "-" + span + "-01":                      false,
		"00-" + strings.ToUpper(id) + "-" + span + "-01":     false,
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01": false,
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":   false,
		"00-" + id + "-" + span:                              false,
		"":                                                   false,
	} {
		c, got := Parse(s)
		if got != ok || ok && !strings.HasPrefix(s, "01") && c.Header() != s {
			t.Errorf("%s: %v, %v", s, c.Header(), got)
		}
	}
}

// A span is a child of the caller's, and its trace is sampled when the caller's is.
func TestStart(t *testing.T) {
	tr := New(Config{Sample: 1})
	h := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}}
	c := tr.Start(h)
	if c.Header()[:36] != h.Get("Traceparent")[:36] || c.Sampled || c.Span == c.Parent {
		t.Errorf("%s", c.Header())
	}
	if c := tr.Start(http.Header{}); !c.Valid() || !c.Sampled || c.Parent != [8]byte{} {
		t.Errorf("%+v", c)
	}
	if c := New(Config{}).Start(http.Header{}); c.Sampled {
		t.Error("a share of 0 is sampled")
	}
	if c := (*Tracer)(nil).Start(h); c.Valid() {
		t.Error("no tracer, and a span")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := Parse(s); ok {
			if again, ok := Parse(c.Header()); !ok || again != c {
				t.Errorf("%q is %q", s, c.Header())
			}
		}
	})
}
